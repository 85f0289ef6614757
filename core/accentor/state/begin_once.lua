-- KEYS: once. ARGV: owner, id of a new batch or atlas, seconds of a lease, seconds that the record is kept.
-- Returns what there is to do ('run', 'wait' or 'replay'), the id, and the fingerprint and status of the first request.
local time = now()
local field = redis.call('HMGET', KEYS[1], 'batch', 'until', 'fingerprint', 'status', 'done')
if field[1] and (field[5] or field[3] and was_made(field[1])) then
  return {'replay', field[1], field[3], field[4] or '202'}
end
if field[1] and tonumber(field[2]) > time then return {'wait', field[1], '', ''} end
local id = field[1] or ARGV[2]
redis.call('HSET', KEYS[1], 'batch', id, 'owner', ARGV[1], 'until', stamp(time + tonumber(ARGV[3])))
redis.call('HDEL', KEYS[1], 'fingerprint')
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {'run', id, '', ''}
