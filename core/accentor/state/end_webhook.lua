-- ARGV: id, token, message, outcome ('delivered', 'failed' or 'gone'), seconds to the next attempt or '', the event's time, the
-- attempt as JSON, entries of the log, seconds of a pause after a failure, the longest such pause, why it would be disabled.
-- 0: another sender has taken over.
local webhook, message, outcome, time = webhook_of(ARGV[1]), ARGV[3], ARGV[4], now()
if redis.call('HGET', webhook.record, 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', webhook.record, 'token')
count(1, 'webhook', outcome)
redis.call('LPUSH', webhook.log, ARGV[7])
redis.call('LTRIM', webhook.log, 0, tonumber(ARGV[8]) - 1)
if outcome == 'delivered' then
  redis.call('HSET', webhook.record, 'last_success_at', stamp(time))
  redis.call('HDEL', webhook.record, 'failing_since', 'failures', 'not_before')
else
  redis.call('HSETNX', webhook.record, 'failing_since', stamp(time))
  local failures = redis.call('HINCRBY', webhook.record, 'failures', 1)
  redis.call('HSET', webhook.record, 'not_before', stamp(time + math.min(failures * tonumber(ARGV[9]), tonumber(ARGV[10]))))
end
if ARGV[5] ~= '' then
  redis.call('HINCRBY', webhook.tries, message, 1)
  redis.call('ZADD', webhook.waiting, stamp(time + tonumber(ARGV[5])), message)
else
  redis.call('ZREM', webhook.waiting, message)
  redis.call('HDEL', webhook.messages, message)
  redis.call('HDEL', webhook.tries, message)
  if outcome ~= 'delivered' then count(1, 'webhook', 'dropped') end
end
local last = tonumber(redis.call('HGET', webhook.record, 'last_success_at') or 0)
if outcome == 'gone' or outcome == 'failed' and ARGV[5] == '' and last < tonumber(ARGV[6]) then
  redis.call('HSET', webhook.record, 'disabled_at', stamp(time), 'disabled_reason', ARGV[11])
  count(redis.call('ZCARD', webhook.waiting), 'webhook', 'dropped')
  forget_messages(webhook)
else
  set_due(webhook)
end
return 1
