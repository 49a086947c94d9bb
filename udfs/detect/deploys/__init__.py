"""Detection of deploys: a service runs another version or another image."""
