"""Parts of agents: types, replay, targets, exploration."""
