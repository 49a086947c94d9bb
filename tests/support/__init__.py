"""What tests share: traffic, drivers, comparisons."""
