"""What we know about tracks and stems: pure functions on arrays and tables."""
