-- Part of every step: a session is used.

-- Marks the session as seen and returns it; one that is over is removed and nil returned.
-- It is entered in the index again, since a session missing there is overlooked by a take. One that was overlooked
-- already is known by the mark, and is over too.
local function touch(index, denied, hash, now, idle)
  local session = read(index, hash, now)
  if not session or is_idle(session, now, idle) or is_marked(denied, session) then
    drop(index, hash)
    return nil
  end
  session.last_seen_at = text(now)
  redis.call('HSET', session.key, 'last_seen_at', session.last_seen_at)
  local expires_at = number(session.expires_at)
  redis.call('PEXPIRE', session.key, text(math.min(idle, expires_at - now)))
  enter(index, hash, expires_at, now)
  return session
end
