"""YourBERT: tailor a pretrained BERT to your own text tasks, and know which tailoring works."""
