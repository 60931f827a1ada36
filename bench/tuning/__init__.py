"""What is settled before anything is compared: tuned hyperparameters and frozen targets (protocol rules 1 and 10)."""
