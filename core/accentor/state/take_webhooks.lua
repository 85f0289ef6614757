-- ARGV: token, seconds of a lease, how many. Of each webhook that is due its next event, until its end or the end of the lease.
local time, taken = now(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', stamp(time), 'LIMIT', 0, ARGV[3])) do
  local webhook = webhook_of(id)
  local message = redis.call('ZRANGEBYSCORE', webhook.waiting, '-inf', stamp(time), 'LIMIT', 0, 1)[1]
  if message then
    redis.call('HSET', webhook.record, 'token', ARGV[1])
    redis.call('ZADD', DUE, stamp(time + tonumber(ARGV[2])), id)
    taken[#taken + 1] = {id, message, redis.call('HGET', webhook.messages, message), redis.call('HGET', webhook.tries, message) or '0',
      redis.call('HGET', webhook.record, 'url'), redis.call('ZREVRANGEBYSCORE', webhook.secrets, '+inf', stamp(time))}
  else
    redis.call('HDEL', webhook.record, 'token')
    set_due(webhook)
  end
end
return taken
