"""The header that a TUN device puts in front of packets, and what super-packets are made of.

Formats: `include/uapi/linux/virtio_net.h`, RFC 9293 (TCP), RFC 768 (UDP).
"""

from __future__ import annotations

import struct

# include/uapi/linux/virtio_net.h, without the fields that are there for mergeable buffers:
#   struct virtio_net_hdr {
#       __u8 flags; __u8 gso_type;
#       __virtio16 hdr_len; __virtio16 gso_size; __virtio16 csum_start; __virtio16 csum_offset;
#   };
VNET = struct.Struct("=BBHHHH")
#: In front of a packet that is complete and of wire size.
EMPTY = bytes(VNET.size)

#   #define VIRTIO_NET_HDR_F_NEEDS_CSUM  1     partial, the field is at csum_start + csum_offset
#   #define VIRTIO_NET_HDR_GSO_TCPV4     1
#   #define VIRTIO_NET_HDR_GSO_TCPV6     4
#   #define VIRTIO_NET_HDR_GSO_UDP_L4    5     of either version
#   #define VIRTIO_NET_HDR_GSO_ECN       0x80  the first segment has CWR
NEEDS_CSUM = 1
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80

#: The most segments that the kernel takes in one UDP super-packet (`UDP_MAX_SEGMENTS` before
#: Linux 6.9), and more than TCP of usual size has.
SEGMENTS_MAX = 64

#: Where the checksum field is, from the start of the header.
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6

FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
#: Set on the last segment only.
LAST_FLAGS = FIN | PSH
#: SYN, RST, FIN, URG, CWR: what such a packet says is about itself.
LONE_FLAGS = 0x02 | 0x04 | FIN | 0x20 | CWR
