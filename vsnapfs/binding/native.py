from vsnapfs.binding import *  # noqa: F403
