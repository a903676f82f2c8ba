"""What people look at: which tailoring of BERT serves each task best, with the evidence beside it."""
