"""Which stages run, in what order, what is already done; and the report."""
