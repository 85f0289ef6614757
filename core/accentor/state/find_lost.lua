-- KEYS: waiting, running, the queue, empty-since. ARGV: lane:model, grace, patience, due (seconds).
-- A waiting shard is sent again when it is due and the queue holds fewer messages than shards wait, or when the queue has
-- been empty for long: its message is lost. Returns shards, each with 'died' or 'unstarted' at the end; whoever asks first gets them, and has to send them again.
local time, grace, patience, due = now(), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}

local function add(shard, why)
  local line = described(shard)
  line[#line + 1] = why
  found[#found + 1] = line
end

for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local shard = read_shard(id)
  if not shard then
    redis.call('SREM', KEYS[2], id)
  elseif shard.alive_until < time then
    if not shard.suspect_at then
      redis.call('HSET', shard.key, 'suspect_at', stamp(time))
    elseif time - shard.suspect_at >= grace and put_back(shard, due) > 0 then
      redis.call('HINCRBY', shard.key, 'attempts', 1)
      add(read_shard(id), 'died')
    end
  end
end

local queued = redis.call('LLEN', KEYS[3])
local short = queued < redis.call('SCARD', KEYS[1])
local empty_since
if queued == 0 then
  redis.call('HSETNX', KEYS[4], ARGV[1], stamp(time))
  empty_since = tonumber(redis.call('HGET', KEYS[4], ARGV[1]))
else
  redis.call('HDEL', KEYS[4], ARGV[1])
end

for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local shard = read_shard(id)
  if not shard then
    redis.call('SREM', KEYS[1], id)
  elseif (short and shard.due_at <= time) or (empty_since and time - math.max(empty_since, shard.sent_at) >= patience) then
    mark_sent(shard.key, due)
    add(shard, 'unstarted')
  end
end
return found
