#!/usr/bin/env python3
"""Three hosts in one machine, for tests: network namespaces on a wire that delays and loses.

    scripts/three_hosts.py PREFIX [--delay-ms 100] [--loss 0.02] [--seed 1]

makes the namespaces PREFIX-head (10.77.0.1), PREFIX-one (10.77.0.2) and PREFIX-two (10.77.0.3), prints "ready", and
carries their Ethernet frames until stdin closes; then it removes them and prints how many it carried and lost.
Lines on stdin: "cut NAME" swallows everything to and from that host, "mend NAME" ends that.

The wire is this program, between one tap device for each host: the kernel's own way (tc netem) is not built into
every kernel. Each frame is late by the delay, so a round trip takes twice as long. Needs root, iproute2 and
/dev/net/tun; exit code 77 says what is missing.
"""

import argparse
import fcntl
import heapq
import os
import random
import selectors
import shutil
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
HOSTS = ["head", "one", "two"]
LARGEST_FRAME = 65536


def cannot(why):
    print(f"three_hosts: {why}", file=sys.stderr)
    sys.exit(77)


def ip(*words):
    subprocess.run(["ip", *words], check=True, stderr=subprocess.PIPE)


def plug(prefix, index):
    """A namespace and its network card; returns our end of the cable."""
    space, card = f"{prefix}-{HOSTS[index]}", f"ep{os.getpid() % 100000}x{index}"
    cable = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(cable, TUNSETIFF, struct.pack("16sH", card.encode(), IFF_TAP | IFF_NO_PI))
    ip("netns", "add", space)
    ip("link", "set", card, "netns", space)
    ip("-n", space, "link", "set", card, "name", "eth0")
    ip("-n", space, "address", "add", f"10.77.0.{index + 1}/24", "dev", "eth0")
    ip("-n", space, "link", "set", "eth0", "up")
    ip("-n", space, "link", "set", "lo", "up")
    return cable


class Wire:
    def __init__(self, cables, delay, loss, seed):
        self.cables, self.delay, self.loss = cables, delay, loss
        self.random = random.Random(seed)
        self.under_way, self.number = [], 0
        self.cut = set()
        self.carried = self.lost = self.swallowed = 0

    def take(self, sender):
        """Frames that a host has sent: each to all others, as on a cable that they share."""
        while True:
            try:
                frame = os.read(self.cables[sender], LARGEST_FRAME)
            except BlockingIOError:
                return
            for receiver in range(len(self.cables)):
                if receiver == sender:
                    continue
                if self.cut & {sender, receiver}:
                    self.swallowed += 1
                elif self.random.random() < self.loss:
                    self.lost += 1
                else:
                    self.number += 1
                    heapq.heappush(self.under_way, (time.monotonic() + self.delay, self.number, receiver, frame))

    def give(self):
        """Frames whose time has come; returns the seconds until the next."""
        while self.under_way:
            wait = self.under_way[0][0] - time.monotonic()
            if wait > 0:
                return wait
            _, _, receiver, frame = heapq.heappop(self.under_way)
            try:
                os.write(self.cables[receiver], frame)
                self.carried += 1
            except OSError:
                self.lost += 1  # the card is down, or its queue is full
        return None

    def run(self):
        events = selectors.DefaultSelector()
        for index, cable in enumerate(self.cables):
            events.register(cable, selectors.EVENT_READ, index)
        events.register(sys.stdin, selectors.EVENT_READ, "orders")
        while True:
            for key, _ in events.select(self.give()):
                if key.data != "orders":
                    self.take(key.data)
                    continue
                line = sys.stdin.readline()
                if not line:
                    return
                order, host = line.split()
                (self.cut.add if order == "cut" else self.cut.discard)(HOSTS.index(host))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("prefix")
    options.add_argument("--delay-ms", type=float, default=100)
    options.add_argument("--loss", type=float, default=0.02)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    if os.geteuid() != 0:
        cannot("needs root")
    if not shutil.which("ip"):
        cannot("needs ip: apt-get install iproute2")
    if not os.path.exists("/dev/net/tun"):
        cannot("this kernel offers no /dev/net/tun")
    try:
        try:
            cables = [plug(options.prefix, index) for index in range(len(HOSTS))]
        except (OSError, subprocess.CalledProcessError) as error:
            cannot(f"network namespaces cannot be made here: {getattr(error, 'stderr', None) or error}")
        wire = Wire(cables, options.delay_ms / 1000, options.loss, options.seed)
        print("ready", flush=True)
        wire.run()
        print(f"carried {wire.carried}, lost {wire.lost}, swallowed {wire.swallowed}", flush=True)
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", f"{options.prefix}-{host}"], stderr=subprocess.DEVNULL, check=False)


main()
