# Cleans up after the test process, however it ends. Standard input is a pipe whose only write end lives in that
# process: end of file means that it is gone, be it finished, panicked, interrupted or killed.
#
# $1: the folder. Every process started there is ended, and the folder removed.
# Input lines: "start PID SIGNAL", the process group PID exists and ends best by SIGNAL; "end PID", it is gone.
folder=$1
processes=

trap '' HUP INT TERM

while read -r word pid signal; do
  case $word in
    start) processes="$processes $pid:$signal" ;;
    end)
      rest=
      for process in $processes; do
        [ "${process%:*}" = "$pid" ] || rest="$rest $process"
      done
      processes=$rest
      ;;
  esac
done

# Whoever works inside the folder, recorded or not: servers start their own children in their own process groups.
signal_inhabitants() {
  for cwd in /proc/[0-9]*/cwd; do
    case $(readlink "$cwd") in
      "$folder" | "$folder"/*)
        pid=${cwd#/proc/}
        kill -s "$1" "${pid%/cwd}"
        ;;
    esac
  done
}

# A zombie is not alive, though its id still takes signals: in a container nobody may ever collect it.
is_alive() {
  if [ -d /proc/self ]; then readlink "/proc/$1/cwd" >/dev/null; else kill -0 "$1"; fi
}

exec 2>/dev/null

# First the polite way, so that PostgreSQL gives back its shared memory; a stopped process must be woken to hear it.
signal_inhabitants CONT
for process in $processes; do
  kill -s "${process#*:}" "${process%:*}"
done
for process in $processes; do
  tries=0
  while is_alive "${process%:*}" && [ "$tries" -lt 40 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
done

for process in $processes; do
  kill -s KILL -- "-${process%:*}"
done
tries=0
while [ -e "$folder" ] && [ "$tries" -lt 40 ]; do
  signal_inhabitants KILL
  rm -rf -- "$folder"
  [ -e "$folder" ] && sleep 0.05
  tries=$((tries + 1))
done
