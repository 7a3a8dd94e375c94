"""The state that is measured: guests on clean-traffic, a tenth of them behind a TCP/UDP filter as well, and twenty networks."""

import os

NETWORKS = 20

SERVICE = """<filter name='service' chain='root'>
  <filterref filter='clean-traffic'/>
  <rule action='accept' direction='in' priority='100'><tcp dstportstart='443'/></rule>
  <rule action='accept' direction='in' priority='110'><udp dstportstart='53'/></rule>
  <rule action='accept' direction='out' priority='300'><all/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>
</filter>
"""

# The stock filter as it is, without its second half: all guests' rules change.
REDEFINED = """<filter name='no-ip-spoofing' chain='ipv4-ip' priority='-710'>
  <rule action='return' direction='out' priority='100'><ip srcipaddr='0.0.0.0' protocol='udp'/></rule>
  <rule action='return' direction='out' priority='500'><ip srcipaddr='$IP'/></rule>
  <rule action='drop' direction='out' priority='900'><ip srcipmask='8' srcipaddr='127.0.0.0'/></rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>
"""


def network(number):
    return f"""<network>
  <name>net{number}</name>
  <bridge name='br-net{number}'/>
  <forward mode='nat'/>
  <ip address='10.{200 + number}.0.1' prefix='16'><dhcp><range start='10.{200 + number}.0.10' end='10.{200 + number}.0.99'/></dhcp></ip>
</network>
"""


def guest(number, address=None):
    high, low = divmod(number, 250)
    middle, high = divmod(high, 250)
    address = address or f"10.{200 + middle}.{high}.{low + 2}"
    return f"""<interface type='network'>
  <mac address='52:54:00:{middle:02x}:{high:02x}:{low:02x}'/>
  <source network='net{number % NETWORKS}'/>
  <target dev='vnet{number}'/>
  <model type='virtio'/>
  <filterref filter='{'service' if number % 10 == 0 else 'clean-traffic'}'>
    <parameter name='IP' value='{address}'/>
  </filterref>
</interface>
"""


def put(path, text):
    """Writes a file the way that editors and libvirt do: beside it, then renamed over it."""
    scratch = os.path.join(os.path.dirname(path), "." + os.path.basename(path))
    with open(scratch, "w") as file:
        file.write(text)
    os.rename(scratch, path)


def write(directory, guests):
    """The state directory of so many guests."""
    for part in ("networks", "filters", "guests"):
        os.makedirs(os.path.join(directory, part))
    for number in range(NETWORKS):
        put(os.path.join(directory, "networks", f"net{number}.xml"), network(number))
    put(os.path.join(directory, "filters", "service.xml"), SERVICE)
    for number in range(guests):
        put(guest_path(directory, number), guest(number))


def guest_path(directory, number):
    return os.path.join(directory, "guests", f"vnet{number}.xml")
