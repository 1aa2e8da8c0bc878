#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""rexec-qemu between a client that speaks QMP, as libvirt does, and QEMU behind two udsproxyd.

Both sides are on this machine: two runtime directories, TCP over 127.0.0.1. QEMU has a second
monitor, to which HOST's side connects directly."""

import array
import fcntl
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

top = os.path.realpath(os.path.dirname(__file__) + '/../..')
BIN = os.path.realpath(os.environ.get('BIN', top + '/build/testmode/bin'))
LIBEXEC = os.path.realpath(os.environ.get('LIBEXEC', top + '/build/testmode/libexec'))
count = failed = 0


def ok(good, name):
    global count, failed
    count += 1
    failed += not good
    print('%sok %d - %s' % ('' if good else 'not ', count, name), flush=True)


def wait_for(seconds, condition):
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            return result
        time.sleep(0.02)
    return result


if os.geteuid() != 0 or not shutil.which('qemu-system-x86_64'):
    print('1..0 # SKIP needs root and QEMU')
    sys.exit(0)
if 'OUTLIVES_DIR' not in os.environ:
    # a network of its own: the ports are ours
    os.environ['OUTLIVES_DIR'] = tempfile.mkdtemp(prefix='outlives.')
    command = 'ip link set lo up && exec "$@"'
    status = subprocess.run(['unshare', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c',
                             command, 'sh', sys.executable, __file__]).returncode
    shutil.rmtree(os.environ['OUTLIVES_DIR'])
    sys.exit(status)

top_dir = os.environ['OUTLIVES_DIR']
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
os.environ['REXEC_RUNTIME_DIR'] = top_dir + '/rexec'
os.environ['UDSPROXYD_RUNTIME_DIR'] = top_dir + '/dpu'
for d in 'rexec', 'dpu', 'host', 'config', 'share':
    os.mkdir(top_dir + '/' + d)


class Service:
    def __init__(self, name, *argv):
        self.name, self.argv, self.log = name, argv, open('%s/%s.log' % (top_dir, name), 'ab')
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def kill(self, signo=signal.SIGKILL):
        self.process.send_signal(signo)
        return self.process.wait(10)


def udsproxyd(side, port, peer):
    return Service(side, BIN + '/udsproxyd', '--runtime-dir=%s/%s' % (top_dir, side), '--config-dir=%s/config' % top_dir,
                   '--test-mode', '1', '127.0.0.1', str(port), '127.0.0.1', str(peer))


class Monitor:
    """One connection to a monitor. Events are collected."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.bytes, self.events, self.id = b'', [], 0
        self.greeting = self.receive()

    def receive(self, timeout=20):
        """The next message; None at the end; TimeoutError."""
        self.socket.settimeout(timeout)
        while b'\r\n' not in self.bytes:
            more = self.socket.recv(65536)
            if not more:
                return None
            self.bytes += more
        line, self.bytes = self.bytes.split(b'\r\n', 1)
        return json.loads(line)

    def send(self, execute, fds=(), **arguments):
        self.id += 1
        text = json.dumps({'execute': execute, 'arguments': arguments, 'id': 'libvirt-%d' % self.id}).encode() + b'\r\n'
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.socket.sendmsg([text], rights)
        return 'libvirt-%d' % self.id

    def answer(self, timeout=20):
        while (message := self.receive(timeout)) is not None and 'event' in message:
            self.events.append(message['event'])
        return message

    def ask(self, execute, fds=(), **arguments):
        sent = self.send(execute, fds, **arguments)
        message = self.answer()
        return message if message is None or message['id'] == sent else None

    def event(self, name, timeout=10):
        try:
            while name not in self.events:
                message = self.receive(timeout)
                if message is None:
                    return False
                if 'event' in message:
                    self.events.append(message['event'])
        except TimeoutError:
            return False
        self.events.remove(name)
        return True

    def ended(self, timeout):
        try:
            return self.answer(timeout) is None
        except TimeoutError:
            return False


def connect(path):
    monitor = Monitor(path)
    monitor.ask('qmp_capabilities')
    return monitor


class Machine:
    """A QEMU with an inherited listening monitor and a locked pid file. A terminal and a socket by path talk to monitors
    for people."""

    def __init__(self, *argv, pass_fds=()):
        self.dir = tempfile.mkdtemp(dir=top_dir)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.dir + '/monitor')
        self.listener.listen(1)
        self.log = open(self.dir + '/log', 'w+')
        self.pidfile = os.open(self.dir + '/pid', os.O_RDWR | os.O_CREAT)
        fd = self.listener.fileno()

        def lock():
            os.write(self.pidfile, b'%d' % os.getpid())
            fcntl.lockf(self.pidfile, fcntl.LOCK_EX)

        before = set(self.sessions())
        self.process = subprocess.Popen(
            [LIBEXEC + '/rexec-qemu', 'qemu-system-x86_64', '-name', 'outlives', '-nodefaults', '-display', 'none', '-smp', '2',
             '-machine', 'pc', '-accel', 'tcg', '-m', '16', '-no-shutdown',
             '-chardev', 'socket,id=charmonitor,fd=%d,server=on,wait=off' % fd, '-mon', 'chardev=charmonitor,mode=control',
             '-qmp', 'unix:%s/second,server=on,wait=off' % self.dir,
             '-chardev', 'pty,id=terminal', '-mon', 'chardev=terminal,mode=readline',
             '-chardev', 'socket,id=port,path=%s/port,server=on,wait=off' % self.dir, '-mon', 'chardev=port,mode=readline',
             *argv], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=lock,
            pass_fds=(fd, self.pidfile, *pass_fds))
        self.listener.close()
        wait_for(10, lambda: set(self.sessions()) - before and os.path.exists(self.host_file('socket1', before)))
        self.session = os.path.dirname(self.host_file('socket1', before))

    @staticmethod
    def sessions():
        return glob.glob(top_dir + '/rexec/sessions/' + '[0-9a-f]' * 32)

    def host_file(self, name, before):
        new = set(self.sessions()) - before
        return new.pop() + '/' + name if new else '/nonexistent'

    def hosts_monitor(self):
        return connect(self.session + '/socket1')

    def qemu(self):
        for exe in glob.glob('/proc/[0-9]*/exe'):
            try:
                if 'qemu-system' in os.readlink(exe) and self.session.encode() in open(os.path.dirname(exe) + '/cmdline', 'rb').read():
                    return int(exe.split('/')[2])
            except OSError:
                pass
        return None

    def words(self):
        return open(self.dir + '/log').read()

    def end(self):
        self.process.kill()
        self.process.wait()
        wait_for(10, lambda: not self.qemu())


def read_until(fd, expected, timeout=10):
    got, end = b'', time.monotonic() + timeout
    while expected not in got and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            got += os.read(fd, 4096)
    return expected in got


host = udsproxyd('host', 21121, 21122)
dpu = udsproxyd('dpu', 21122, 21121)
server = Service('server', BIN + '/rexec_server', '--runtime-dir=%s/rexec' % top_dir, '--test-mode')
proxies = {'dpu': dpu, 'host': host}


def reachable():
    return subprocess.run([BIN + '/rexec', '/bin/true'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=20).returncode == 0


if not wait_for(20, reachable):
    print('Bail out! the two udsproxyd do not connect')
    sys.exit(1)

def show_logs(kind, value, traceback):
    for log in glob.glob(top_dir + '/*.log') + glob.glob(top_dir + '/*/log'):
        print('# ==', log)
        for line in open(log).readlines()[-20:]:
            print('#   ' + line.rstrip())
    sys.__excepthook__(kind, value, traceback)


sys.excepthook = show_logs

# ---- what crosses ----

vm = Machine()
monitor = connect(vm.dir + '/monitor')
ok(monitor.greeting and 'QMP' in monitor.greeting, 'the greeting comes over an inherited listening socket')
threads = [cpu['thread-id'] for cpu in monitor.ask('query-cpus-fast')['return']]
ok(len(set(threads)) == 2 and all(os.path.exists('/proc/%d/task/%d' % (vm.process.pid, t)) for t in threads),
   'thread ids are threads of this process')
ok([cpu['props']['thread-id'] for cpu in monitor.ask('query-cpus-fast')['return']] == [0, 0],
   "a CPU's topology is not taken for thread ids")


def locked():
    return any('POSIX' in line and ' %d ' % vm.process.pid in line for line in open('/proc/locks'))


ok(locked(), 'the pid file stays locked')
hosts_fds = [os.readlink(f) for f in glob.glob('/proc/%d/fd/*' % vm.qemu())]
ok(not any(f.startswith(vm.dir) for f in hosts_fds), 'and does not cross')


def qemus_cpus():
    return [sorted(os.sched_getaffinity(int(t))) for t in os.listdir('/proc/%d/task' % vm.qemu())]


everywhere = os.sched_getaffinity(0)
if os.cpu_count() > 1:
    os.sched_setaffinity(threads[1], {1})
    # QEMU names its threads only when asked to; there is one that may run on CPU 1 alone
    ok(wait_for(3, lambda: qemus_cpus().count([1]) == 1), "pinning such a thread pins QEMU's")
    os.sched_setaffinity(vm.process.pid, {0})
    ok(wait_for(3, lambda: sorted(c for c in qemus_cpus() if c != [0]) == sorted([[1], sorted(everywhere)])),
       'pinning this process pins all others of QEMU, and the CPUs stay where they were')
    for thread in vm.process.pid, threads[1]:
        os.sched_setaffinity(thread, everywhere)
    ok(wait_for(3, lambda: all(c == sorted(everywhere) for c in qemus_cpus())), 'and all go everywhere again')


def terminal_of(m):
    paths = [c['filename'] for c in m.ask('query-chardev')['return'] if c['label'] == 'terminal']
    return paths[0][len('pty:'):]


terminal = terminal_of(monitor)
hosts_terminal = [c['filename'] for c in vm.hosts_monitor().ask('query-chardev')['return'] if c['label'] == 'terminal'][0]
ok(hosts_terminal != 'pty:' + terminal and terminal_of(monitor) == terminal, 'a terminal has a name of ours, always the same')



def talks(fd, word):
    """The monitor for people behind @fd repeats @word."""
    os.write(fd, b'print /d 0x%x\r' % word)
    return read_until(fd, b'%d' % word)


terminal = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
ok(talks(terminal, 4711), 'and carries what is typed and what is printed')
os.close(terminal)
terminal = os.open(terminal_of(monitor), os.O_RDWR | os.O_NOCTTY)
ok(talks(terminal, 4712), 'also when it is opened again')
os.write(terminal, b'info qom-tree\r' * 20)
os.close(terminal)
terminal = os.open(terminal_of(monitor), os.O_RDWR | os.O_NOCTTY)
ok(talks(terminal, 4715), 'output that nobody reads holds nothing up')
os.close(terminal)

r, w = os.pipe()
monitor.ask('getfd', [w], fdname='out')
os.close(w)
monitor.ask('migrate', uri='fd:out')
ok(read_until(r, b'QEVM'), 'a pipe that is passed with getfd carries a migration')
os.close(r)
wait_for(10, lambda: monitor.ask('query-migrate')['return'].get('status') in ('completed', 'failed'))
monitor.ask('cont')

with open(vm.dir + '/saved', 'wb') as saved:
    saved.write(b'header--')
    saved.flush()
    monitor.ask('getfd', [saved.fileno()], fdname='file')
monitor.ask('migrate', uri='fd:file')
wait_for(10, lambda: monitor.ask('query-migrate')['return'].get('status') in ('completed', 'failed'))
ok(wait_for(5, lambda: open(vm.dir + '/saved', 'rb').read(12) == b'header--QEVM'),
   'a file outside the shares is written from its offset on')

event = os.eventfd(0)
refused = monitor.ask('getfd', [event], fdname='event')
ok(refused and 'error' in refused, 'a descriptor that cannot cross is answered with an error')
print('#', refused)
ok(monitor.ask('query-status') is not None, 'and the monitor goes on')
os.close(event)

before = os.times()
ticks = sum(int(n) for n in open('/proc/%d/stat' % vm.process.pid).read().split()[13:15])
time.sleep(1)  # this is what is measured
ok(sum(int(n) for n in open('/proc/%d/stat' % vm.process.pid).read().split()[13:15]) - ticks <= 1, 'idle costs no CPU time')
vm.process.terminate()
ok(vm.process.wait(10) == 0, 'SIGTERM ends QEMU, and its status is ours')
ok(not os.path.exists(vm.dir + '/second') and not os.path.exists(vm.dir + '/port'), 'sockets that were made are gone')

saved = open(vm.dir + '/saved', 'rb')
saved.seek(8)
vm = Machine('-incoming', 'fd:%d' % saved.fileno(), pass_fds=[saved.fileno()])
monitor = connect(vm.dir + '/monitor')
ok(wait_for(10, lambda: monitor.ask('query-status')['return']['status'] != 'inmigrate'),
   'a file outside the shares is read from its offset on (-incoming fd:)')
vm.end()

# ---- the link ----

vm = Machine()
monitor = connect(vm.dir + '/monitor')
qemu = vm.qemu()
terminal = os.open(terminal_of(monitor), os.O_RDWR | os.O_NOCTTY)
port = socket.socket(socket.AF_UNIX)
port.connect(vm.dir + '/port')


def same():
    return vm.process.poll() is None and vm.qemu() == qemu


thread = monitor.ask('query-cpus-fast')['return'][1]['thread-id']
for side in 'dpu', 'host':
    hosts = vm.hosts_monitor()
    proxies[side].kill()
    sent = monitor.send('query-name')
    if os.cpu_count() > 1:
        os.sched_setaffinity(thread, {1})
    ok(not monitor.ended(1) and same(), "kill -9 of %s's udsproxyd: the monitor stays open, and nothing ends" % side.upper())
    hosts.ask('stop')
    hosts.socket.close()
    proxies[side].start()
    answer = monitor.answer()
    ok(answer and answer['id'] == sent and answer['return'] == {'name': 'outlives'}, 'what was asked meanwhile is answered when it is back')
    ok(monitor.event('STOP'), 'that QEMU stopped meanwhile is told')
    if os.cpu_count() > 1:
        ok(wait_for(5, lambda: qemus_cpus().count([1]) == 1), 'what was pinned meanwhile is pinned')
        os.sched_setaffinity(thread, everywhere)
    ok(monitor.ask('cont') is not None and monitor.event('RESUME') and same(), 'and all goes on')
    threads_now = [cpu['thread-id'] for cpu in monitor.ask('query-cpus-fast')['return']]
    ok(all(os.path.exists('/proc/%d/task/%d' % (vm.process.pid, t)) for t in threads_now), 'with thread ids that are here')
    ok(talks(terminal, 4713), 'the terminal that was open all the time carries')
    ok(talks(port.fileno(), 4714), 'and so does a socket by path')

proxies['host'].process.send_signal(signal.SIGSTOP)
sent = monitor.send('device_add', driver='nothing')
wait_for(1, lambda: False)  # until it is certainly on its way
proxies['host'].kill()
proxies['host'].start()
answer = monitor.answer()
ok(answer and answer['id'] == sent and 'unknown' in answer.get('error', {}).get('desc', ''),
   'a command under way when the link broke is answered: its outcome is unknown')

proxies['dpu'].kill()
os.kill(qemu, signal.SIGTERM)
ok(wait_for(10, lambda: not vm.qemu()), 'QEMU ends while the link is lost')
ok(not monitor.ended(1) and vm.process.poll() is None, 'and nobody here pretends to know')
proxies['dpu'].start()
ok(monitor.ended(20), 'when the link is back the monitor ends')
ok('terminating on signal 15' in vm.words(), "and by then QEMU's last words are in the log")
ok(vm.process.wait(10) == 0, "and QEMU's exit status is ours")

# ---- the ends ----

vm = Machine()
monitor = connect(vm.dir + '/monitor')
os.kill(vm.qemu(), signal.SIGKILL)
ok(monitor.ended(10) and vm.process.wait(10) == -signal.SIGKILL, "killed like QEMU")

vm = Machine()
vm.process.kill()
vm.process.wait()
ok(wait_for(10, lambda: not vm.qemu()), 'kill -9 of rexec-qemu ends QEMU')

vm = Machine('-device', 'no-such-device')
ok(vm.process.wait(10) == 1 and 'no-such-device' in vm.words(), "a QEMU that fails says why, and its status is ours")

server.kill(signal.SIGTERM)
for service in proxies.values():
    service.kill(signal.SIGTERM)
vm = Machine()
ok(vm.process.wait(20) == 125 and 'udsproxyd' in vm.words(), 'without udsproxyd: status 125, and it is named')
print('# ' + vm.words().strip())
print('1..%d' % count)
if failed:
    for log in glob.glob(top_dir + '/*.log'):
        print('# ==', log)
        for line in open(log).readlines()[-20:]:
            print('#   ' + line.rstrip())
sys.exit(failed != 0)
