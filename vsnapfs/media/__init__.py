"""Where tapes come from and how they are written and read: pools of directories, drives, changers, plain files and pipes."""
