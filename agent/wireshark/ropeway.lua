-- Wireshark dissector for the frames of ropeway: `classic` and `secure`. See PROTOCOL.md.
--
-- Copy or link it into Wireshark's folder of personal Lua plugins (Help, About, Folders), or
--
--     tshark -X lua_script:/usr/share/doc/ropeway/ropeway.lua -r capture.pcap
--
-- Filter by `ropeway`, `ropeway.type == 4`, `ropeway.host == 10.0.0.1` and the like. Sealed packets
-- are not opened here: `ropeway decrypt` writes a capture of the packets inside.
--
-- A capture on a host itself may show frames of one size as one long datagram, because its kernel
-- carries them together. They are taken apart if headers of one session follow each other in it at
-- equal distances. To see every frame by itself, capture after
--
--     ethtool -K INTERFACE gro off tx-udp-segmentation off
--
-- Tried with Wireshark 3.4, 4.0 and 4.4. The last runs no Lua as root, and does not say so.

local ropeway = Proto("ropeway", "Ropeway")
-- Has no tree of its own: it is the entry for IP protocol 4, which other tunnels use as well.
local classic = Proto("ropeway_classic", "Ropeway classic, over IP protocol 4")

ropeway.prefs.ports = Pref.range(
    "UDP ports", "51840", "Where the secure encapsulation is spoken: `port` of each network", 65535)

local CLASSIC_HEADER = 32
local CLASSIC_EXTRA = 2
local SECURE_HEADER = 16
local TAG = 16
local MAC = 16

local INITIATION, RESPONSE, COOKIE, DATA, CONTROL, RESET, PARTIAL, MESSAGE = 1, 2, 3, 4, 5, 6, 7, 8
local PARITY = 9
local LABELLED, LABELLED_PARTIAL = 10, 11
local LABEL = 12

local TYPES = {
    [INITIATION] = "initiation",
    [RESPONSE] = "response",
    [COOKIE] = "cookie",
    [DATA] = "data",
    [CONTROL] = "control",
    [RESET] = "reset",
    -- As data, with a packet whose TCP or UDP checksum is left to the receiver.
    [PARTIAL] = "partial data",
    -- What two hosts say to each other of the network: routes, leases.
    [MESSAGE] = "message",
    -- The XOR of packets of a lane, from which one that is lost can be made.
    [PARITY] = "parity",
    -- As data and partial data, with a label before the packet: it travels through several routers.
    [LABELLED] = "labelled data",
    [LABELLED_PARTIAL] = "labelled partial data",
}
-- Types of the lanes, as data and as partial data, and both with labels. A lane has a counter of its
-- own.
local LANE, LANES = 16, 8
local LANES_END = LANE + 4 * LANES
local function lane_of(kind)
    return kind >= LANE and kind < LANES_END and (kind - LANE) % LANES or nil
end
local function is_partial(kind)
    return kind == PARTIAL or kind == LABELLED_PARTIAL
        or lane_of(kind) ~= nil and math.floor((kind - LANE) / LANES) % 2 == 1
end
local function is_labelled(kind)
    return kind == LABELLED or kind == LABELLED_PARTIAL
        or lane_of(kind) ~= nil and kind >= LANE + 2 * LANES
end
for lane = 0, LANES - 1 do
    TYPES[LANE + lane] = "data of lane " .. lane
    TYPES[LANE + LANES + lane] = "partial data of lane " .. lane
    TYPES[LANE + 2 * LANES + lane] = "labelled data of lane " .. lane
    TYPES[LANE + 3 * LANES + lane] = "labelled partial data of lane " .. lane
end
-- Types of one length only; all others have a header and a tag at least.
local LENGTHS = { [INITIATION] = 172, [RESPONSE] = 112, [COOKIE] = 60, [RESET] = 24 }
local STATES = {
    [0] = "can send",
    [1] = "can receive",
    [2] = "both ways work",
}

local f = {
    -- classic
    sequence_classic = ProtoField.uint16("ropeway.identification", "Frame of the connection"),
    host = ProtoField.ipv4("ropeway.host", "Host"),
    src_index = ProtoField.uint32("ropeway.src_index", "Sender's interface"),
    dst_index = ProtoField.uint32("ropeway.dst_index", "Receiver's interface"),
    state = ProtoField.uint16("ropeway.state", "State", base.DEC, STATES, 0x0003),
    forward = ProtoField.bool("ropeway.forward", "Carries a packet", 16, nil, 0x0004),
    id = ProtoField.uint16("ropeway.id", "Id of the packet", base.DEC, nil, 0xfff8),
    -- secure
    type = ProtoField.uint8("ropeway.type", "Type", base.DEC, TYPES),
    zero = ProtoField.bytes("ropeway.zero", "Zero"),
    way = ProtoField.uint8("ropeway.way", "Way, by the receiver's count"),
    sequence = ProtoField.uint16("ropeway.sequence", "Data frame of the connection"),
    index = ProtoField.bytes("ropeway.index", "Receiver's session index"),
    counter = ProtoField.uint64("ropeway.counter", "Counter of the session"),
    sealed = ProtoField.bytes("ropeway.sealed", "Sealed"),
    frames = ProtoField.uint32("ropeway.frames", "Frames carried together"),
    sealed_length = ProtoField.uint32("ropeway.sealed_length", "Bytes that are sealed"),
    tag = ProtoField.bytes("ropeway.tag", "Tag"),
    ephemeral = ProtoField.bytes("ropeway.ephemeral", "Ephemeral public key"),
    static = ProtoField.bytes("ropeway.static", "Sender's public key, sealed"),
    payload = ProtoField.bytes("ropeway.payload", "Payload, sealed"),
    mac1 = ProtoField.bytes("ropeway.mac1", "mac1"),
    mac2 = ProtoField.bytes("ropeway.mac2", "mac2"),
    salt = ProtoField.bytes("ropeway.salt", "Salt"),
    cookie = ProtoField.bytes("ropeway.cookie", "Cookie, sealed"),
    about = ProtoField.bytes("ropeway.about", "Start of the initiation's mac1"),
    token = ProtoField.bytes("ropeway.token", "Token"),
}
for _, field in pairs(f) do
    table.insert(ropeway.fields, field)
end

local malformed = ProtoExpert.new(
    "ropeway.malformed", "Not a frame of ropeway", expert.group.MALFORMED, expert.severity.ERROR)
local unexpected = ProtoExpert.new(
    "ropeway.unexpected", "Not as this version sends it", expert.group.PROTOCOL,
    expert.severity.WARN)
ropeway.experts = { malformed, unexpected }

local ip_header = Field.new("ip")
local dissect_ip = Dissector.get("ip")

local function start(tvb, pinfo, tree)
    pinfo.cols.protocol:set("Ropeway")
    return tree:add(ropeway, tvb())
end

local function refuse(pinfo, subtree, sentence)
    pinfo.cols.info:set(sentence)
    subtree:add_proto_expert_info(malformed, sentence)
end

-- secure ------------------------------------------------------------------------------------------

-- As `ropeway keylog` and the log write it.
local function session_of(tvb)
    return tvb(4, 4):bytes():tohex(true)
end

local function check_zero(tvb, subtree)
    local item = subtree:add(f.zero, tvb(1, 3))
    if tvb(1, 3):uint() ~= 0 then
        item:add_proto_expert_info(unexpected, "These bytes are zero in this version.")
    end
end

-- Adds mac1 and mac2, the end of both handshake messages; says whether a cookie is shown.
local function add_macs(tvb, subtree)
    local at = tvb:reported_len() - 2 * MAC
    subtree:add(f.mac1, tvb(at, MAC))
    local mac2 = tvb(at + MAC, MAC)
    local shown = mac2:bytes():tohex():find("[^0]") ~= nil
    local item = subtree:add(f.mac2, mac2)
    item:append_text(shown and " (shows a cookie)" or " (no cookie)")
    return shown
end

local function initiation(tvb, subtree)
    check_zero(tvb, subtree)
    subtree:add(f.ephemeral, tvb(4, 32))
    subtree:add(f.static, tvb(36, 48))
    subtree:add(f.payload, tvb(84, 56))
    return add_macs(tvb, subtree) and "A handshake begins, with a cookie" or "A handshake begins"
end

local function response(tvb, subtree)
    check_zero(tvb, subtree)
    subtree:add(f.index, tvb(4, 4))
    subtree:add(f.ephemeral, tvb(8, 32))
    subtree:add(f.payload, tvb(40, 40))
    add_macs(tvb, subtree)
    return "The handshake of session " .. session_of(tvb) .. " is answered"
end

local function cookie(tvb, subtree)
    check_zero(tvb, subtree)
    subtree:add(f.salt, tvb(4, 16))
    subtree:add(f.cookie, tvb(20, 32))
    subtree:add(f.about, tvb(52, 8))
    return "The handshake is to be repeated with a cookie"
end

local function reset(tvb, subtree)
    check_zero(tvb, subtree)
    subtree:add(f.index, tvb(4, 4))
    subtree:add(f.token, tvb(8, 16))
    return "Session " .. session_of(tvb) .. " is not known any more"
end

local function frame(tvb, subtree)
    local kind = tvb(0, 1):uint()
    local is_data = kind ~= CONTROL and kind ~= MESSAGE
    local way, sequence = tvb(1, 1):uint(), tvb(2, 2):le_uint()
    local items = { subtree:add(f.way, tvb(1, 1)), subtree:add_le(f.sequence, tvb(2, 2)) }
    if not is_data and (way ~= 0 or sequence ~= 0) then
        items[1]:add_proto_expert_info(unexpected, "Only data frames have a way and a sequence.")
    end
    subtree:add(f.index, tvb(4, 4))
    subtree:add_le(f.counter, tvb(8, 8))
    local length = tvb:reported_len() - SECURE_HEADER - TAG
    if length > 0 then
        subtree:add(f.sealed, tvb(SECURE_HEADER, length))
    end
    subtree:add(f.sealed_length, length):set_generated()
    subtree:add(f.tag, tvb(SECURE_HEADER + length, TAG))
    local session = ", session " .. session_of(tvb)
        .. ", counter " .. tostring(tvb(8, 8):le_uint64())
    if not is_data then
        local what = kind == MESSAGE and "Message" or "Control frame"
        return what .. " of " .. length .. " bytes" .. session
    end
    if kind == PARITY then
        return "Parity of packets, " .. length .. " bytes" .. session .. ", way " .. way
    end
    local lane = lane_of(kind) and ", lane " .. lane_of(kind) or ""
    local partial = is_partial(kind) and ", checksum partial" or ""
    local label = ""
    if is_labelled(kind) then
        length, label = length - LABEL, ", labelled"
    end
    return "Packet of " .. length .. " bytes" .. label .. partial .. lane .. session .. ", way " .. way
end

local PARTS = {
    [INITIATION] = initiation,
    [RESPONSE] = response,
    [COOKIE] = cookie,
    [DATA] = frame,
    [CONTROL] = frame,
    [RESET] = reset,
    [PARTIAL] = frame,
    [MESSAGE] = frame,
    [PARITY] = frame,
    [LABELLED] = frame,
    [LABELLED_PARTIAL] = frame,
}
for kind = LANE, LANES_END - 1 do
    PARTS[kind] = frame
end

-- The size of the first frame, if others follow it in the same datagram; else that of the datagram.
-- A header is known by its type, its session and the upper half of its counter.
local function first_size(tvb)
    local whole = tvb:captured_len()
    local kind = tvb(0, 1):uint()
    if PARTS[kind] ~= frame or whole < 2 * SECURE_HEADER + TAG then
        return tvb:reported_len()
    end
    local bytes = tvb:raw()
    local index, upper = bytes:sub(5, 8), bytes:sub(13, 16)
    local at = SECURE_HEADER + TAG
    while true do
        -- Counted from 1, and the index is the fifth byte of its frame.
        local found = bytes:find(index, at + 5, true)
        if found == nil or found + 11 > whole then
            return tvb:reported_len()
        end
        at = found - 5
        if PARTS[bytes:byte(at + 1)] == frame and bytes:sub(at + 13, at + 16) == upper then
            return at
        end
        at = at + 1
    end
end

-- Dissects one frame or message; gives its sentence, and whether it is one.
local function dissect_one(tvb, subtree)
    local length = tvb:reported_len()
    local kind = tvb(0, 1):uint()
    local name = TYPES[kind]
    subtree:add(f.type, tvb(0, 1))
    if name == nil then
        return "There is no type " .. kind .. ".", false
    end
    subtree:append_text(", " .. name)
    local exact, least = LENGTHS[kind], SECURE_HEADER + TAG
    if exact ~= nil and length ~= exact then
        return "The " .. name .. " has " .. length .. " bytes instead of " .. exact .. ".", false
    elseif exact == nil and length < least then
        return "The " .. name .. " frame has " .. length .. " bytes; " .. least
            .. " is the least that it can have.", false
    end
    return PARTS[kind](tvb, subtree), true
end

function ropeway.dissector(tvb, pinfo, tree)
    local length = tvb:reported_len()
    local size = first_size(tvb)
    if size >= length then
        local subtree = start(tvb, pinfo, tree)
        local sentence, good = dissect_one(tvb, subtree)
        if good then
            pinfo.cols.info:set(sentence)
        else
            refuse(pinfo, subtree, sentence)
        end
        return length
    end
    local count = math.ceil(length / size)
    local first
    for at = 0, length - 1, size do
        local part = tvb(at, math.min(size, length - at)):tvb()
        pinfo.cols.protocol:set("Ropeway")
        local subtree = tree:add(ropeway, part())
        subtree:add(f.frames, count):set_generated()
        local sentence, good = dissect_one(part, subtree)
        if not good then
            subtree:add_proto_expert_info(malformed, sentence)
        end
        first = first or sentence
    end
    pinfo.cols.info:set(count .. " frames together. " .. first)
    return length
end

-- classic -----------------------------------------------------------------------------------------

local protocols = DissectorTable.get("ip.proto")
local other_tunnels = protocols:get_dissector(4)

-- The header of the packet that this is the payload of; nil if it is not one of classic.
local function classic_header(tvb)
    local headers = { ip_header() }
    local header = headers[#headers]
    -- Over IPv6, or reassembled, the payload does not follow right after an IPv4 header.
    if header == nil or header.len ~= CLASSIC_HEADER
        or header.offset + header.len ~= tvb:offset() then
        return nil
    end
    return header.range
end

function classic.dissector(tvb, pinfo, tree)
    local header = classic_header(tvb)
    if header == nil then
        return other_tunnels:call(tvb, pinfo, tree)
    end
    local length = tvb:reported_len()
    local subtree = start(tvb, pinfo, tree)
    subtree:append_text(", classic")
    subtree:add_le(f.sequence_classic, header(4, 2))
    subtree:add(f.host, header(20, 4))
    subtree:add_le(f.src_index, header(24, 4))
    subtree:add_le(f.dst_index, header(28, 4))
    if length < CLASSIC_EXTRA then
        refuse(pinfo, subtree, "The frame ends before its state.")
        return length
    end
    local extra = tvb(0, CLASSIC_EXTRA)
    local bits = extra:le_uint()
    local item = subtree:add_le(f.state, extra)
    subtree:add_le(f.forward, extra)
    subtree:add_le(f.id, extra)
    local state = bits % 4
    local carries = math.floor(bits / 4) % 2 == 1
    local id = math.floor(bits / 8)
    if STATES[state] == nil then
        item:add_proto_expert_info(malformed, "There is no state 3.")
    end
    local ways = "interface " .. header(24, 4):le_uint() .. " to " .. header(28, 4):le_uint()
    local host = tostring(header(20, 4):ipv4())
    if not carries then
        pinfo.cols.info:set("Greeting of " .. host .. ", " .. ways .. ", state " .. state)
        if length > CLASSIC_EXTRA then
            item:add_proto_expert_info(unexpected, "Bytes follow, but no packet is announced.")
        end
        return length
    end
    if length == CLASSIC_EXTRA then
        refuse(pinfo, subtree, "A packet is announced, but nothing follows.")
        return length
    end
    subtree:set_len(CLASSIC_EXTRA)
    pinfo.cols.info:set("Packet " .. id .. " of " .. host .. ", " .. ways .. ": ")
    -- What the packet's own dissectors say is put after it.
    pinfo.cols.info:fence()
    dissect_ip:call(tvb(CLASSIC_EXTRA):tvb(), pinfo, tree)
    return length
end

-- Entries -----------------------------------------------------------------------------------------

local udp = DissectorTable.get("udp.port")
local ports

local function follow_preferences()
    if ports ~= nil then
        udp:remove(ports, ropeway)
    end
    ports = ropeway.prefs.ports
    udp:add(ports, ropeway)
end

follow_preferences()
ropeway.prefs_changed = follow_preferences
udp:add_for_decode_as(ropeway)
protocols:add(4, classic)
