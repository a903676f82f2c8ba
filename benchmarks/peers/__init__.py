"""What YourBERT is measured against; each needs the extra `bench`, and is skipped with a word where that is missing."""
