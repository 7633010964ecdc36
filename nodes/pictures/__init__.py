"""The charts that nodes show."""
