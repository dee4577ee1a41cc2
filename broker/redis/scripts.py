"""What the redis broker has its server do in one step, in Lua.

`ARGV` starts with the group and, in the scripts of a member, that member. Times are the server's, in milliseconds.
"""

#: what the scripts of a member have in common
MEMBER = """
local stream, due, last, group, me = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function pending(id, consumer)
    return redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
end

local function park(id, count, at)
    redis.call('XCLAIM', stream, group, '~', 0, id, 'RETRYCOUNT', count, 'JUSTID')
    redis.call('ZADD', due, at, id)
end

-- a time long past, so it is due; and what was published first comes first
local function when_published(id)
    local ms, seq = string.match(id, '(%d+)-(%d+)')
    return ms + seq / 4096
end

local function fields(list)
    local map = {}
    for n = 1, #list, 2 do map[list[n]] = list[n + 1] end
    return map
end
"""

#: make the group, from the oldest message kept, unless it exists; what an earlier one of that name left is dropped
JOIN = """
local stream, due, last, groups, group, name = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if not made.err then
    redis.call('DEL', due, last)
elseif not string.find(made.err, 'BUSYGROUP') then
    return made
end
redis.call('SADD', groups, name)
"""

#: what is due, then what is idle for longer than its lease, except what this member holds: id, attempt, last, fields;
#: and in how many milliseconds the next is due. A consumer that is gone and has nothing pending is removed.
CLAIM = (
    MEMBER
    + """
local lease, limit, held, claimed, next_due = tonumber(ARGV[3]), tonumber(ARGV[4]), {}, {}, -1
for n = 5, #ARGV do held[ARGV[n]] = true end

local function claim(id, count)
    local entry = redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count + 1)[1]
    if entry then
        table.insert(claimed, {id, count + 1, redis.call('SISMEMBER', last, id), entry[2]})
    else
        redis.call('XACK', stream, group, id) -- somebody has deleted it from the stream
    end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, limit)) do
    local parked = pending(id, '~')
    redis.call('ZREM', due, id)
    if parked then claim(id, parked[4]) end
end
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = fields(info)
    if consumer.pending == 0 and consumer.idle > lease and consumer.name ~= me then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    elseif consumer.name ~= '~' then
        local idle = redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', limit + #ARGV, consumer.name)
        for _, entry in ipairs(idle) do
            if #claimed < limit and not held[entry[1]] then claim(entry[1], entry[4]) end
        end
    end
end
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
if first[2] then next_due = math.max(0, math.ceil(first[2] - now)) end
return {claimed, next_due}
"""
)

#: due after some milliseconds, or at once when that is below 0; then pairs of id and delivery count.
#: What another member has taken over meanwhile is left to it.
PARK = (
    MEMBER
    + """
local delay = tonumber(ARGV[3])
for n = 4, #ARGV, 2 do
    local id = ARGV[n]
    if pending(id, me) then park(id, ARGV[n + 1], delay < 0 and when_published(id) or now + delay) end
end
"""
)

#: start the leases again, of these ids
EXTEND = (
    MEMBER
    + """
for n = 3, #ARGV do
    if pending(ARGV[n], me) then redis.call('XCLAIM', stream, group, me, 0, ARGV[n], 'JUSTID') end
end
"""
)

#: hand back what this member has: what it knows of, with the delivery counted; what was still on its way to it, not.
#: Deleting a consumer drops what is pending with it, so that comes after.
LEAVE = (
    MEMBER
    + """
local known = {}
for n = 3, #ARGV do known[ARGV[n]] = true end
for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 1000000, me)) do
    local count = known[entry[1]] and entry[4] or entry[4] - 1
    park(entry[1], count, when_published(entry[1]))
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
"""
)

#: an id, and the fields of its dead letter
BURY = (
    MEMBER
    + """
if pending(ARGV[3], me) then
    redis.call('XADD', KEYS[4], '*', unpack(ARGV, 4))
    redis.call('XACK', stream, group, ARGV[3])
    redis.call('SREM', last, ARGV[3])
end
"""
)

#: a dead letter back into the stream: its id there, and the fields of the message
REPLAY = """
if redis.call('XDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
return 1
"""

#: end a group
FORGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('SREM', KEYS[5], ARGV[2])
"""

#: what is pending, and what was never delivered; the server counts those itself since 7.0, if nobody deletes any
BACKLOG = (
    MEMBER
    + """
if redis.call('EXISTS', stream) == 0 then return 0 end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local found = fields(info)
    if found.name == group then
        local count, from = found.pending, found['last-delivered-id']
        if found.lag then return count + found.lag end
        repeat
            local page = redis.call('XRANGE', stream, '(' .. from, '+', 'COUNT', 100)
            count = count + #page
            if #page > 0 then from = page[#page][1] end
        until #page == 0
        return count
    end
end
return 0
"""
)

#: drop what is older than so many milliseconds, and was delivered to every group and acked by it
TRIM = """
local time = redis.call('TIME')
local ms, seq, seen = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2], 0, {}
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for n = 1, #info, 2 do group[info[n]] = info[n + 1] end
    local id = group['last-delivered-id']
    if group.pending > 0 then id = redis.call('XPENDING', KEYS[1], group.name)[2] end
    local its_ms, its_seq = string.match(id, '(%d+)-(%d+)')
    its_ms, its_seq = tonumber(its_ms), tonumber(its_seq)
    if its_ms < ms or (its_ms == ms and its_seq < seq) then ms, seq = its_ms, its_seq end
    seen[ARGV[1] .. ' ' .. group.name] = true
end
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if string.match(name, '%S+') == ARGV[1] and not seen[name] then return end -- it was deleted, and will start again
end
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f-%.0f', ms, seq), 'LIMIT', 1000000)
"""
