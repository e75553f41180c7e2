"""Provider facts as dated data, and their loader."""
