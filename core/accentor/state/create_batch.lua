-- KEYS: record, batches, lanes, ring, deadlines. ARGV: id, total, lane:model, created_at, seconds to the deadline or '', then the
-- record's fixed fields.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local id, total, place, created_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', KEYS[1], 'state', 'queued', 'total', total, 'queued', total, 'running', 0, 'succeeded', 0,
  'failed', 0, 'canceled', 0, 'cached', 0, 'revision', 0, 'cursor', 0, 'created_at', created_at, unpack(ARGV, 6))
redis.call('ZADD', KEYS[2], created_at, id)
redis.call('SADD', KEYS[3], place)
redis.call('RPUSH', KEYS[4], id)
if ARGV[5] ~= '' then
  local deadline = stamp(now() + tonumber(ARGV[5]))
  redis.call('HSET', KEYS[1], 'deadline_at', deadline)
  redis.call('ZADD', KEYS[5], deadline, id)
end
return 1
