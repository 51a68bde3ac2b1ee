"""What every other room of `deploy` needs, and what needs none of them."""
