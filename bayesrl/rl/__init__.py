"""What agents are made of: types, replay, targets, exploration."""
