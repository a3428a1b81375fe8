"""Images and labels as numpy arrays: read, stored, split, and the test part kept sealed. No torch."""
