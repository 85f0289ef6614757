-- KEYS: once. ARGV: owner, status of the answer. The record stays if its batch or atlas was created, else the key is free again.
local field = redis.call('HMGET', KEYS[1], 'owner', 'batch', 'fingerprint')
if field[1] ~= ARGV[1] then return 0 end
if field[3] and was_made(field[2]) then
  redis.call('HSET', KEYS[1], 'done', 1, 'status', ARGV[2])
  return 1
end
redis.call('DEL', KEYS[1])
return 0
