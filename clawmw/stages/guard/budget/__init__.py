"""What calls may use: limits, what is drawn for a call, and the stage that does it."""
