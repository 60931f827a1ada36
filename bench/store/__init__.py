"""What is kept: cells with their records, whole files, published results, and rows read back."""
