"""A version of the node's software: compiled, archived, signed, and the agent that installs it."""
