"""The control plane: the verbs, who answers them, and the processes that serve a mount."""
