"""What a hit, a miss and a write cost."""
