"""What a result hangs by: its significant digits, and the parts that must stay precise."""
