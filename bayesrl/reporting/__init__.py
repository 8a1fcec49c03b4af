"""What runs say, compared and explained."""
