"""What is unusual: one folder for each detector."""
