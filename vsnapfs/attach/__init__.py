"""The filesystem in a volume's file, mounted: what is in it, a loop device, the options it needs, and nothing left behind."""

from vsnapfs.attach.attaching import attach, attached, detach
from vsnapfs.attach.checking import Verdict, check_filesystem
from vsnapfs.attach.device import Device, device_of
from vsnapfs.attach.model import Attached

__all__ = ["Attached", "Device", "Verdict", "attach", "attached", "check_filesystem", "detach", "device_of"]
