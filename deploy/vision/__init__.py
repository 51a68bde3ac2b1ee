"""What is seen in pictures: faces, their points, how good a view is, and who is where from frame to frame."""
