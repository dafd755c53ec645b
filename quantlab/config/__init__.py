"""The YAML files that people write, checked and turned into values; every error names the line and the key."""
