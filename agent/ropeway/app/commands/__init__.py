"""The commands that do more than ask the agent."""
