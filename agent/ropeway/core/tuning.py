"""Limits and timers that are this implementation's choice.

They may change from release to release without a node on the other side noticing. Limits that
concern one module alone are in that module. What both sides must agree on is in
:mod:`ropeway.core.classic.frame` and in the modules of :mod:`ropeway.core.frame` and
:mod:`ropeway.core.session`.
"""

from __future__ import annotations

#: An established connection sends an empty frame after this much silence of its own.
KEEPALIVE_S = 0.5
#: A connection that heard nothing for this long falls back to state 0. Four keepalives, so that
#: a link that loses one packet in five falls back about once in 600 windows.
SILENCE_S = 2.0
#: A received state 0 means that the other end started anew, or no longer hears this one, only if no
#: higher state came for this long; before that it is a late copy of an old greeting.
RESTART_S = 0.1
#: A connection's remote address moves only after the old address was silent for this long, so
#: that a forged frame cannot turn a working connection away.
ADDRESS_HOLD_S = 1.0

#: A classic connection that nobody has answered yet tries another address of its link after this
#: time: the other end follows with the first greeting after `ADDRESS_HOLD_S`, and its answer comes
#: within one more.
SOURCE_TRY_S = 4.0

#: First, and longest, pause between two greetings of an unfinished connection.
GREETING_MIN_S = 0.1
GREETING_MAX_S = 1.0
#: Each pause is spread by this share either way, so that a fleet does not greet in step.
GREETING_JITTER = 0.2
#: Greetings and answers a second to learnt remotes together, and how many at once.
GREETINGS_PER_S = 500.0
GREETINGS_BURST = 500
#: A connection is answered no sooner than this after its last answer.
ANSWER_PAUSE_S = 0.02

#: Remote interfaces learnt from traffic that are held at once, over all peers.
MAX_LEARNT_REMOTES = 1024
#: Remote interfaces of one peer, configured ones included.
MAX_REMOTES_PER_PEER = 32
#: Learnt connections of one host on a secure network, where it is certain whose they are, as long
#: as those of all hosts together are fewer than MAX_LEARNT_REMOTES.
MAX_LEARNT_OF_HOST = 128
#: How many unknown remote interfaces are admitted a second, and at once, where anybody may forge
#: them.
LEARN_PER_S = 50.0
LEARN_BURST = 200
#: The same where hosts are told apart for certain, so that many come back soon after a restart, and
#: how many of them one host may make known.
LEARN_HOSTS_PER_S = 500.0
LEARN_HOSTS_BURST = 1000
LEARN_STRAND_PER_S = 2.0
LEARN_STRAND_BURST = 64
#: A learnt remote interface is forgotten when it was silent for this long ...
FORGET_S = 60.0
#: ... or for this long if it never said that it hears this host.
FORGET_UNPROVEN_S = 10.0
#: How often forgetting is looked at.
FORGET_EVERY_S = 5.0

#: Copies of one packet, at most; beyond it connections with links of their own come first.
MAX_COPIES = 8
#: Connections to a host's configured endpoints, beyond one for each link: eight copies and as many
#: in reserve for each of them.
CALLED_ENOUGH = 64
#: Packets that are handled as one run, and their bytes: with what sealing adds they make one train,
#: of which Linux takes 64 frames (UDP_MAX_SEGMENTS, include/linux/udp.h) and 65507 bytes.
MAX_RUN = 64
MAX_RUN_BYTES = 63000
#: Where frames of a host have to wait, those up to this size wait apart from larger ones: calls and
#: acknowledgements do not wait behind bulk.
SMALL_BYTES = 400
#: Destinations whose next hop is remembered; beyond it the memory starts anew.
MAX_NEXT_HOPS = 4096
#: Through so many routers a packet travels at once. Two survive the loss of one without a pause; a
#: third would cost half as much traffic again for the case that two fail within a moment.
ROUTERS_AT_ONCE = 2
#: Hosts whose packets are known by the labels that they bear, and starts of each. A window takes
#: 16 KiB; two starts let what a host sent before it started anew still arrive.
MAX_ORIGINS = 512
MAX_STARTS = 2
#: Packets of one start that have come in pieces and lack some.
MAX_IN_PIECES = 64
#: A host that has not said within this time, in seconds, that it takes labels takes none.
FEATURES_SAID_S = 1.0
#: A copy that arrives this much after the first is still known, if the ids allow it. Linux keeps a
#: packet for about 3 s while it resolves an address.
LATE_COPY_S = 5.0
#: Packets remembered in one of two generations: 130 000 packets/s; beyond it the oldest go.
MAX_WINDOW_ENTRIES = 65536

#: ICMP errors sent a second, and at once (RFC 1812, section 4.3.2.8); "fragmentation needed",
#: without which a sender stalls, has as many of its own. The last two are for the packets of one
#: host, which leaves the others theirs.
ICMP_PER_S = 1000.0
ICMP_BURST = 1000
ICMP_STRAND_PER_S = 50.0
ICMP_STRAND_BURST = 100
#: Hosts that are remembered because packets go to them by the router, and as many of which it was
#: asked where they are.
MAX_BY_ROUTER = 64
WHO_HAS_ASKED = 256
#: A host that packets go to is asked for at these distances, which double, in seconds; one that is
#: met is asked for at the last one, to learn soon that it belongs to the network no more.
WHO_HAS_MIN_S = 1.0
WHO_HAS_MAX_S = 60.0
WHO_HAS_REVIEW_S = 60.0
#: How often it is looked at whether something about direct hosts is due, in seconds.
WHO_HAS_LOOK_S = 1.0
#: A host says so often that it is here, and is believed to be for as long as three times are lost.
HERE_EVERY_S = 60.0
HERE_HOLD_S = 200.0
#: How often at most, in seconds, one host is told by a router that another one asks for it, and of
#: how many pairs that is remembered.
WHO_HAS_TOLD_S = 1.0
WHO_HAS_TOLD_MAX = 4096
#: Hosts that may be met directly at a time. One that does not answer, or that no data passes to, is
#: given up after these times, in seconds.
DIRECT_HOSTS = 64
DIRECT_SILENT_S = 60.0
DIRECT_IDLE_S = 600.0
#: Messages taken a second, and at once; the last two are for those of one host.
MESSAGES_PER_S = 5000.0
MESSAGES_BURST = 10000
MESSAGES_STRAND_PER_S = 200.0
MESSAGES_STRAND_BURST = 1000
#: Events reported a second, and at once; the rest is counted.
EVENTS_PER_S = 10.0
EVENTS_BURST = 200
#: So many changes of one thing, such as a link, are reported one by one: all connections of a link
#: to a host with four, lost and back. More of them are reported once in this time with a count, or
#: a link that flaps would fill the journal.
CHANGES_TOLD = 8
CHANGES_EVERY_S = 60.0
#: Of what a link carries, which is reported after it has lasted, its loss and its return.
LACK_CHANGES_TOLD = 2
#: So many things are watched for that; the changes of others are reported one by one.
CHANGES_MAX = 1024

#: A link that carries nothing for this long is reported, as is a host that it does not reach: a new
#: address and the handshakes over it take a few seconds.
LACK_REPORT_S = 10.0
#: However often connections change, links are looked at for that no more often.
LACK_LOOK_S = 1.0

#: The device's MTU follows a link of this one while none leads to a peer.
DEFAULT_LINK_MTU = 1500

#: An endpoint that a connection was heard from besides its own is challenged no more often.
CHALLENGE_PAUSE_S = 0.1
#: Announcements of one host that are looked at, a second and at once: each of many connections has
#: one, the same ones again.
ANNOUNCEMENTS_PER_S = 10.0
ANNOUNCEMENTS_BURST = 20
#: Questions to what one host has announced, a second and at once.
QUESTIONS_PER_S = 5.0
QUESTIONS_BURST = 32
#: Bytes of announcements that questions may yet be sent for.
QUESTIONS_BYTES = 2048
#: Questions to what one host has announced whose answers are known.
QUESTION_MARKS = 64
#: First, and longest, pause between two questions from a link to an endpoint.
QUESTION_MIN_S = 0.4
QUESTION_MAX_S = 60.0
#: Where it has answered, the endpoint in use has so many round trips, and this much more, to answer
#: as well and so to stay; at most the last.
STAY_ROUND_TRIPS = 2.0
STAY_S = 0.02
STAY_MAX_S = 0.5
#: Control frames of a connection whose echoes are known: those of this time, in seconds, up to the
#: second number, which is that of more than 2 s where both ends ask as often as they may; and the
#: last ones in any case.
MARKS_S = 3.0
MAX_MARKS = 256
MARKS_KEPT = 16
#: While a strand of the secure encapsulation carries data, each of its connections sends a control
#: frame this often.
PROBE_S = 0.5
#: Connections of a host beyond the first MAX_COPIES probe by up to this share sooner, each by
#: another one, so that the work for all of them does not come at one moment.
PROBE_SPREAD = 0.2
#: The same where a policy has to know soon when a path gets worse.
QUICK_PROBE_S = 0.1
#: A strand without data for this long sends fewer of them.
ACTIVE_S = 5.0
#: Without data the pauses begin here, grow by this factor as long as NATs and firewalls on the way
#: hold, and stay between these bounds. RFC 4787, REQ-5 wants two minutes held; many hold 30 s.
IDLE_START_S = 5.0
IDLE_GROWTH = 1.5
IDLE_MIN_S = 2.0
IDLE_MAX_S = 45.0
#: The end that was called sends this share of the caller's pause after it, to prove that what is on
#: the way still holds.
IDLE_ANSWER_SHARE = 0.9
#: Nor is it longer than this on the only connection, which a failed try would leave unreachable.
IDLE_ALONE_S = 20.0
#: The pause where both ends know each other's endpoint, so that nothing proves a longer one.
IDLE_MUTUAL_S = 15.0
#: The same over a metered link, over which a host that does not answer is greeted as often as that
#: without data, and as the second one with data that others carry.
METERED_MUTUAL_S = 30.0
METERED_GREET_S = 15.0
#: A metered link over which nothing was sent for this long is quiet, if others carry the data.
METERED_QUIET_S = 2.0
#: A pause that did not hold is not tried again for this long.
IDLE_RETRY_S = 3600.0
#: A connection is silent after this many pauses of the other end without a frame.
SILENT_PAUSES = 2.5
#: While data flows, a session begins anew when the other end was not heard on any connection for
#: this long: it may have started anew.
PEER_SILENCE_S = 1.2
#: First, and longest, pause between two initiations, and its growth.
INITIATE_MIN_S = 0.25
INITIATE_MAX_S = 5.0
#: The longest pause while there is something to send.
INITIATE_ASKED_S = 1.5
ASKED_S = 10.0
INITIATE_GROWTH = 1.5
#: A host that has not answered for this long is reported, once.
UNANSWERED_S = 10.0
#: No two initiations to one host are closer than this.
INITIATE_GAP_S = 0.05
#: How often a strand's sessions are looked at, with data and without; and without, where one
#: session is all that there is and its rollover is not due.
SESSION_LOOK_S = 0.5
SESSION_LOOK_IDLE_S = 5.0
SESSION_LOOK_REST_S = 60.0
#: A stale handshake of a host that was heard so lately was overtaken on its way or is played back.
STALE_HEARD_S = 5.0
#: How long a host that seems to be there has to answer, before it is called back.
STALE_ANSWER_S = 1.0
#: Connections over which it is asked that: two control frames are shorter than an initiation.
STALE_ASKED = 2
#: Answers to stale handshakes a second, and at once, and what one host has of them: as many as it
#: may have links.
STALE_PER_S = 100.0
STALE_BURST = 200
STALE_STRAND_PER_S = 4.0
STALE_STRAND_BURST = 32
#: Stale handshakes of a host are reported this often, and are in its status for as long.
STALE_REPORT_PAUSE_S = 60.0
#: A cookie makes an initiation go out again no more often than this.
COOKIE_PAUSE_S = 1.0
#: What a unit of a link's cost weighs, in milliseconds of time on the way.
LINK_COST_MS = 0.1
#: A connection that carries nothing any more, because the budget of its link is used up, is as
#: lively as the others for this long: the other end hears of it though frames are lost.
SPARE_SAID_S = 2.0
#: Packets, and seconds, that wait for a host's session.
HELD_PACKETS = 256
HELD_S = 2.0
#: What of a connection's frames is lost is counted over this time, and so many frames, at least: a
#: single one of fewer would make several percent.
LOSS_S = 5.0
LOSS_FRAMES_MIN = 50
#: An answer is late after the usual time and four deviations, or this if that is more.
LATE_MIN_MS = 15.0
#: Counts of sent and received frames that are kept for that are so far apart, and no more are kept.
LOSS_EVERY_S = 0.25
LOSS_EVERY_FRAMES = 5
LOSS_COUNTS_MAX = 64
#: Smoothing of round-trip times, and of their deviation (RFC 6298, section 2), and of the jitter
#: (RFC 3550, section 6.4.1).
RTT_SHARE = 0.125
RTT_VAR_SHARE = 0.25
JITTER_SHARE = 0.0625
#: The lowest round trip, and the lowest time one way, are those of the last one to two of these.
#: The second is shorter because clocks run apart: 20 ppm are 1.2 ms a minute.
RTT_MIN_S = 150.0
TRANSIT_MIN_S = 60.0
#: A time in queues may be so much longer than the last round trip was above the lowest one.
QUEUE_SLACK_MS = 1.0
#: What a path carries is worked out over this time and so many frames, or over the third time if
#: there are at least the fourth then. Pauses between control frames are no longer than the fifth.
CAPACITY_S = 0.4
CAPACITY_FRAMES = 50
CAPACITY_MAX_S = 2.0
CAPACITY_FRAMES_MIN = 10
CAPACITY_PAUSE_S = 4.0
#: Waits are a queue if they are longer than this, and than so many medians of the changes from one
#: to the next, of the last so many; with fewer changes than the last nothing is said.
CAPACITY_QUEUE_MS = 20.0
CAPACITY_JITTERS = 5.0
CAPACITY_GAPS = 32
CAPACITY_GAPS_MIN = 6
#: The path is full if so many waits in a row were a queue, and if one was as long as the second,
#: or this share of the frames was lost meanwhile with 99 % confidence.
CAPACITY_LONG = 4
CAPACITY_SURE_MS = 100.0
CAPACITY_LOSS = 0.05
#: What a full path carries less than is known counts after this time by 63 %.
CAPACITY_FALL_S = 0.3
#: What a path carries confirms a figure if it is this share of it at least.
CAPACITY_SAME = 0.9
#: Rates are worked out over this time, or longer where fewer control frames come.
RATE_S = 1.0
#: A policy that measures paths asks for an answer every QUICK_PROBE_S while data flows. On the best
#: one it asks more often, up to the first number, as long as questions of so many kbit are no
#: larger share of what it carries than the third. Answers may be so close together as the last.
BEST_PROBE_S = 0.025
PROBE_KBIT = 1.0
PROBE_SHARE = 0.02
QUICK_ANSWER_PAUSE_S = 0.008
#: A node asks so many questions a second, over all hosts; each active one has an equal part of it.
#: They are no more than the first share of a host's packets, or the second one if that is more than
#: its part.
NODE_ASKS_PER_S = 200.0
ASKS_PER_PACKET = 0.33
ASKS_PER_PACKET_MIN = 0.02
#: What carries without copies over others is asked this often at least, in seconds.
SLOW_PROBE_S = 0.45
#: Where the pause is longer than this, a frame that goes out anyway asks after half of it.
EARLY_ASK_S = 0.15
#: Questions of a host that are answered a second, and at once, over all its connections.
ANSWERS_PER_S = 150.0
ANSWERS_BURST = 50
#: A path without an answer for so long is not known any more.
OLD_S = 1.0
#: Frames that are missing after so many answers in a row were not just overtaken.
OVERTAKEN_MAX = 8
#: A loss is news for so long.
LOSS_FRESH_S = 0.2
#: Losses that the modes adaptive and single tolerate, as shares.
ADAPTIVE_LOSS = 0.001
SINGLE_LOSS = 0.05
#: How late an answer may be at least in mode single, in ms.
SINGLE_LATE_MS = 40.0
#: Packets may use so much of their time on the path itself: the rest is for finding out that one
#: is in trouble, and for repeating.
WITHIN_SHARE = 0.5
#: All connections carry a class for so long after trouble; longer by the factor where it comes
#: again within so many times that.
HOLD_MIN_S = 0.3
HOLD_MAX_S = 0.4
HOLD_GROWTH = 1.2
HOLD_MEMORY = 8.0
#: Another connection is better only if its cost is below this share of the present one's.
SWITCH_SHARE = 0.7
#: How often the best connections of a class with a number of copies are looked for.
CHOICE_S = 1.0
#: What weighs a path: milliseconds for each trouble, which counts half after the time below, and
#: for the loss of all packets.
TROUBLE_COST_MS = 20.0
TROUBLE_HALF_S = 30.0
LOSS_COST_MS = 1000.0
#: Mode spread: how often its connections are measured, and how late an answer may be at least and
#: what share may be lost before one takes no part. Bulk makes queues and losses by itself.
SPREAD_PROBE_S = 0.05
SPREAD_LATE_MS = 200.0
SPREAD_LOSS = 0.2
#: Where the queue is shorter than the first and it was given more than the second as a share of
#: the rate that is known, the rate is tried with the third as a factor, and with the fourth once
#: it was full. With a queue it follows what leaves the queue, by the fifth as a share. It begins at
#: the last, in bytes/s.
SPREAD_QUEUE_S = 0.01
SPREAD_USED = 0.7
SPREAD_GROWTH_FIRST = 1.25
SPREAD_GROWTH = 1.03
SPREAD_RATE_SHARE = 0.25
SPREAD_RATE_MIN = 125_000.0
#: Bytes that are held back of the packets of one host, so that they go on in order, and of all
#: hosts.
LANE_BYTES = 2 << 20
LANES_BYTES = 32 << 20
#: A pause between packets of a lane counts no longer than that for whether a connection is in use.
LANE_PAUSE_S = 0.02
#: A parity frame is sent before it covers what it should where packets pause for the first, in
#: seconds, and for so many times as long as they are usually apart, which follows each pause by the
#: third as a share; at the latest so many seconds after the first packet, and in mode adaptive
#: after the last as a share of what a packet may take.
PARITY_PAUSE_S = 0.02
PARITY_PAUSE_GAPS = 3.0
PARITY_GAP_SHARE = 0.125
PARITY_AGE_S = 0.5
PARITY_SHARE = 0.5
#: For how long packets are kept to repair others, in seconds, how many bytes of them for one host,
#: and for all; and how many parity frames of a lane wait for packets.
REPAIR_S = 1.0
REPAIR_BYTES = 512 << 10
REPAIRS_BYTES = 16 << 20
REPAIR_GROUPS = 16
#: For how long packets of a lane are held back where the other end has not said so yet.
HOLD_UNSAID_S = 0.1
#: Troubles of two ends that begin so close to each other are one. A loss shows after OVERTAKEN_MAX
#: answers, so its moment is known to no more than two times PROBE_S.
TOGETHER_S = 1.0
#: An end is in trouble anew after so long without any: what came of the last one has shown by then.
NEW_TROUBLE_S = 6.0
#: A connection that was heard so lately would have shown trouble: silence takes SILENCE_S to show,
#: and another end's may have shown sooner.
MEASURED_S = SILENCE_S + TOGETHER_S
#: A round trip that is so much longer than the lowest one is trouble.
TROUBLE_QUEUE_MS = 100.0
#: Which ends fail together counts half after a time, and is not known before so many troubles. So
#: many pairs are kept: those of 16 ends.
JOINT_HALF_S = 1800.0
JOINT_TROUBLES_MIN = 3.0
JOINT_PAIRS_MAX = 120
#: What it weighs, in milliseconds, if two connections have all their troubles at once: as much as
#: the loss of half of what is sent. It is shown from this share on.
TOGETHER_COST_MS = 500.0
TOGETHER_SHOWN = 0.5
#: Runs of lost frames are those of the last one to two of these times.
BURSTS_S = 60.0
#: Sampled packets of a host that are waited for, and for how long.
SAMPLED_MAX = 32
SAMPLE_S = 1.0
#: A copy that comes so much after the first one was too late, if its class does not say otherwise.
DEADLINE_MS = 100.0
#: What was sent over some connections only is kept for so long, which is more than SLOW_PROBE_S and
#: most round trips, and so many bytes of each class.
RECENT_S = 0.6
RECENT_BYTES = 1 << 18
