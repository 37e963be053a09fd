# Two nodes on one machine, with the stack installed on both and a real sshd each.
#
# A node is a process in mount, host name and process id namespaces of its own (stack/node-init), so
# that /run/qemu-server means another folder on each, as on two machines, and nothing in the stack
# has to know. Both see the same cluster folder as /run/pve. From outside, a node's /run is
# FOLDER/NAME/run. When the node's first process ends, everything on it ends.
package SwitchoverTest::Cluster;

use strict;
use warnings;

use Config ();
use Cwd ();
use File::Basename ();
use File::Path ();
use File::Temp ();
use IO::Socket::INET;
use POSIX ();

use SwitchoverTest::Guest;
use SwitchoverTest::Loop;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

my $STACK = Cwd::realpath(File::Basename::dirname(__FILE__) . '/../../stack');
my %ADDRESS = (alpha => '127.0.0.2', beta => '127.0.0.3');
my $NODE_START_SECONDS = 30;
my $NODE_END_SECONDS = 10;
my $PATH = '/run/stack/bin:/usr/sbin:/usr/bin:/sbin:/bin';
my $COMMAND_SECONDS = 120;

my %living;

# Why no cluster can run here, or undef.
sub unavailable {
    return 'needs root: each node is a mount namespace' if $> != 0;
    return 'needs sshd' if !-x '/usr/sbin/sshd';
    return 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::binary('7.2');
    return 'needs namespaces' if system('unshare --mount --uts --pid --fork true 2>/dev/null') != 0;
    return;
}

# Starts both nodes. The stack always runs with -T. Options:
# perl_options: more options for the stack's perl on alpha;
# drop_in: settings of the drop-in, which is then loaded there by such an option;
# loader: the text of /etc/default/switchover, where the drop-in is installed there by its loader;
# installed: the stack is that of this machine, with or without a drop-in, as packages have put it there.
sub new {
    my ($class, %options) = @_;
    my $folder = File::Temp::tempdir('switchover-stack-XXXXXX', TMPDIR => 1);
    my $self = bless {
        folder => $folder, owner => $$, loop => SwitchoverTest::Loop->new(),
        perl_options => $options{perl_options} // [], loader => $options{loader},
        installed => $options{installed},
        nodes => {}, ticks => {},
    }, $class;
    if (my $settings = $options{drop_in}) {
        my $list = join(',', map { ",$_,$settings->{$_}" } sort keys %$settings) =~ s/\A,//r;
        push @{ $self->{perl_options} }, include_of_module(),
            '-MQEMU::Switchover::QemuServer' . (length $list ? "=$list" : '');
    } elsif (defined $options{loader}) {
        push @{ $self->{perl_options} }, include_of_module();
    }
    $living{$folder} = $self;
    $self->_write_common_files();
    $self->_start_node($_) for sort keys %ADDRESS;
    return $self;
}

# The options with which a perl finds the module that is tested.
sub include_of_module {
    my @folders = grep { -e "$_/QEMU/Switchover.pm" || -e "$_/auto/QEMU" } grep { !ref } @INC;
    return map { ('-I', Cwd::realpath($_)) } @folders;
}

sub loop { return $_[0]->{loop} }
sub folder { return $_[0]->{folder} }

# The outside path of something under a node's /run.
sub path {
    my ($self, $node, $path) = @_;
    return "$self->{folder}/$node/run/$path";
}

# ---- Files

sub _write {
    my ($path, $text, $mode) = @_;
    open(my $file, '>', $path) or die "can't write '$path': $!\n";
    print {$file} $text;
    close($file) or die "can't write '$path': $!\n";
    chmod($mode, $path) if defined $mode;
    return;
}

sub _read {
    my ($path) = @_;
    open(my $file, '<', $path) or return;
    local $/;
    return scalar <$file>;
}

sub _free_port {
    my ($address) = @_;
    my $socket = IO::Socket::INET->new(LocalAddr => $address, Listen => 1, Proto => 'tcp')
        or die "can't listen on $address: $!\n";
    return $socket->sockport();
}

sub _write_common_files {
    my ($self) = @_;
    my $folder = $self->{folder};
    File::Path::make_path("$folder/ssh", "$folder/shared", "$folder/guest",
        map { "$folder/pve/nodes/$_/qemu-server" } keys %ADDRESS);
    _write("$folder/pve/members", join('', map { "$_ $ADDRESS{$_}\n" } sort keys %ADDRESS));
    for my $name (qw(host_key user_key)) {
        system('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', "$folder/ssh/$name") == 0
            or die "ssh-keygen failed\n";
    }
    my $host_key = _read("$folder/ssh/host_key.pub");
    _write("$folder/ssh/known_hosts", join('', map { "$_ $host_key" } sort keys %ADDRESS));
    my $client = '';
    for my $node (sort keys %ADDRESS) {
        my $port = $self->{ports}{$node} = _free_port($ADDRESS{$node});
        $client .= "Host $ADDRESS{$node}\n    Port $port\n";
    }
    $client .= "Host *\n"
        . "    IdentityFile $folder/ssh/user_key\n"
        . "    IdentitiesOnly yes\n"
        . "    UserKnownHostsFile $folder/ssh/known_hosts\n"
        . "    GlobalKnownHostsFile /dev/null\n"
        . "    StrictHostKeyChecking yes\n";
    _write("$folder/ssh/config", $client);
    return;
}

sub _write_node_files {
    my ($self, $node) = @_;
    my $folder = $self->{folder};
    my $run = "$folder/$node/run";
    File::Path::make_path(map { "$run/$_" } qw(qemu-server lock sshd stack/bin stack/images stack/ssh));
    File::Path::make_path("$folder/$node/lib");
    $self->_install_stack($node) if !$self->{installed};
    chmod(0755, "$run/sshd");
    symlink("$folder/pve", "$run/pve");
    symlink("$folder/shared", "$run/stack/shared");
    symlink("$folder/ssh/config", "$run/stack/ssh/config");
    $self->_write_programs($node, $node eq 'alpha' ? @{ $self->{perl_options} } : ())
        if !$self->{installed};
    _write("$folder/ssh/sshd_$node", <<"CONFIG");
ListenAddress $ADDRESS{$node}
Port $self->{ports}{$node}
HostKey $folder/ssh/host_key
AuthorizedKeysFile $folder/ssh/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
SetEnv PATH=$PATH
CONFIG
    return;
}

sub _write_programs {
    my ($self, $node, @options) = @_;
    for my $program (qw(qm stackd)) {
        my $command = join(' ', map { "'$_'" } '/usr/bin/perl', '-T', @options, "$STACK/bin/$program");
        _write($self->path($node, "stack/bin/$program"), "#!/bin/sh\nexec $command \"\$\@\"\n", 0755);
    }
    return;
}

# Lets the stack on alpha have these options too from now on, after the others; not those of the last call.
sub also_load {
    my ($self, @options) = @_;
    $self->_write_programs('alpha', @{ $self->{perl_options} }, @options);
    return;
}

# The stack's modules lie where the node's perl looks for them, and so does a loader.
sub _install_stack {
    my ($self, $node) = @_;
    my $folder = "$self->{folder}/$node";
    my $modules = $Config::Config{sitelib} =~ s{\A/usr/local/share/}{$folder/share/}r;
    File::Path::make_path($modules, "$folder/perl/PVE", "$folder/default");
    symlink("$STACK/lib/PVE", "$modules/PVE") or die "can't link '$modules/PVE': $!\n";
    return if $node ne 'alpha' || !defined $self->{loader};
    symlink("$STACK/../../drop-in/PVE/QemuMigrate.pm", "$folder/perl/PVE/QemuMigrate.pm");
    _write("$folder/default/switchover", $self->{loader});
    return;
}

# ---- Nodes

sub _start_node {
    my ($self, $node) = @_;
    $self->_write_node_files($node);
    pipe(my $life_read, my $life_write) or die "pipe failed: $!\n";
    pipe(my $said_read, my $said_write) or die "pipe failed: $!\n";
    my $pid = fork() // die "fork failed: $!\n";
    if (!$pid) {
        POSIX::dup2(fileno($life_read), 0);
        POSIX::dup2(fileno($said_write), 1);
        exec('unshare', '--mount', '--uts', '--pid', '--fork', '--kill-child', '--',
            $^X, "$STACK/node-init", $node, "$self->{folder}/$node",
            "$self->{folder}/ssh/sshd_$node") or POSIX::_exit(127);
    }
    close($life_read);
    close($said_write);
    $self->{nodes}{$node} = { unshare => $pid, life => $life_write };
    my ($inner) = (<$said_read> // '') =~ /\Apid ([0-9]+)\n\z/ or die "node $node does not start\n";
    $self->{nodes}{$node}{pid} = $inner;
    $self->{loop}->run_until($NODE_START_SECONDS, "the sshd of $node", sub {
        IO::Socket::INET->new(PeerAddr => $ADDRESS{$node}, PeerPort => $self->{ports}{$node});
    });
    return;
}

# Ends everything on the node at once, as if its power failed.
sub kill_node {
    my ($self, $node) = @_;
    my $process = delete $self->{nodes}{$node} // return;
    close($process->{life});
    my $deadline = SwitchoverTest::Loop::now() + $NODE_END_SECONDS;
    while (waitpid($process->{unshare}, POSIX::WNOHANG()) == 0) {
        kill('KILL', $process->{unshare}) if SwitchoverTest::Loop::now() >= $deadline;
        select(undef, undef, undef, 0.01);
    }
    return;
}

# Ends both nodes and removes every file.
sub end {
    my ($self) = @_;
    return if $self->{owner} != $$ || !delete $living{ $self->{folder} };
    $self->kill_node($_) for keys %{ $self->{nodes} };
    $_->close_all() for map { values %$_ } values %{ $self->{ticks} };
    chdir('/') if Cwd::cwd() =~ /\A\Q$self->{folder}\E/;
    File::Path::remove_tree($self->{folder});
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($@, $?, $!);
    $self->end();
    return;
}

# A signal must clean up like everything else.
$SIG{$_} //= sub { exit(1) } for qw(INT TERM HUP);

END {
    local ($?, $!);
    $_->end() for values %living;
}

# ---- Commands on a node

# Starts a command on the node. The task { lines => [[TIME, TEXT], …], exit => undef until its end }
# fills up while the loop runs.
sub start {
    my ($self, $node, @command) = @_;
    pipe(my $read, my $write) or die "pipe failed: $!\n";
    my $namespaces = $self->{nodes}{$node}{pid};
    my $pid = fork() // die "fork failed: $!\n";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        open(STDIN, '<', '/dev/null');
        POSIX::dup2(fileno($write), $_) for 1, 2;
        $ENV{PATH} = $PATH;
        exec('nsenter', '--target', $namespaces, '--mount', '--uts', '--pid', '--', @command)
            or POSIX::_exit(127);
    }
    close($write);
    my $task = { pid => $pid, node => $node, lines => [], buffer => '', command => "@command" };
    $self->{loop}->watch($read, sub {
        my ($time) = @_;
        my $count = sysread($read, $task->{buffer}, 65536, length $task->{buffer});
        push @{ $task->{lines} }, [$time, $1] while $task->{buffer} =~ s/\A([^\n]*)\n//;
        return if $count;
        $self->{loop}->forget($read);
        close($read);
        waitpid($pid, 0);
        $task->{exit} = $?;
    });
    return $task;
}

sub wait_for {
    my ($self, $task) = @_;
    my $what = "'$task->{command}' on $task->{node}";
    my $waited = eval {
        $self->{loop}->run_until($COMMAND_SECONDS, $what, sub { defined $task->{exit} });
        1;
    };
    die $@, map { "  $_->[1]\n" } @{ $task->{lines} } if !$waited;
    return $task;
}

# Runs a command to its end and returns its lines; dies where it fails.
sub run {
    my ($self, $node, @command) = @_;
    my $task = $self->wait_for($self->start($node, @command));
    my @lines = map { $_->[1] } @{ $task->{lines} };
    die join("\n", "'@command' on $node failed:", @lines), "\n" if $task->{exit};
    return @lines;
}

# Sends a signal to the worker that a task has announced, seen from outside its namespace.
sub signal_worker {
    my ($self, $task, $signal) = @_;
    my ($inner) = map { $_->[1] =~ /\Aworker ([0-9]+)\z/ } @{ $task->{lines} };
    die "the task has announced no worker\n" if !defined $inner;
    my $namespace = readlink("/proc/$self->{nodes}{ $task->{node} }{pid}/ns/pid");
    for my $status (glob('/proc/[0-9]*/status')) {
        my ($outer) = (_read($status) // next) =~ /^NSpid:.*?(\d+)\t$inner$/m or next;
        next if (readlink("/proc/$outer/ns/pid") // '') ne $namespace;
        return kill($signal, $outer);
    }
    die "worker $inner is gone\n";
}

# ---- Virtual machines

# Makes and starts a VM on alpha, and waits for its first ticks. Options: version of QEMU, memory in
# MiB, disk_bytes for one local disk, dirty_pages_per_tick and dirty_bytes of the guest, and
# `config` with further lines.
sub start_vm {
    my ($self, $vmid, %options) = @_;
    my $folder = $self->{folder};
    my $image = "$folder/guest/$vmid.img";
    SwitchoverTest::Guest::write_boot_image($image, %options);
    my %config = (
        emulator => SwitchoverTest::QEMU::binary($options{version} // '7.2'),
        memory => $options{memory} // 128,
        boot => $image,
        serial0 => "/run/stack/serial-$vmid",
        net0 => 'e1000=' . $self->hardware_address($vmid) . ',bridge=vmbr0',
        %{ $options{config} // {} },
    );
    if (my $bytes = $options{disk_bytes}) {
        File::Path::make_path($self->path('alpha', "stack/images/$vmid"));
        $config{scsi0} = "local:$vmid/vm-$vmid-disk-0.raw";
        _write_random($self->path('alpha', "stack/images/$vmid/vm-$vmid-disk-0.raw"), $bytes);
    }
    _write("$folder/pve/nodes/alpha/qemu-server/$vmid.conf",
        join('', map { "$_: $config{$_}\n" } sort keys %config));
    for my $node (keys %ADDRESS) {
        $self->{ticks}{$vmid}{$node} =
            SwitchoverTest::Ticks->new($self->{loop}, $self->path($node, "stack/serial-$vmid"));
    }
    $self->run('alpha', 'qm', 'start', $vmid);
    $self->ticks($vmid, 'alpha')->wait_for(200);
    return;
}

sub _write_random {
    my ($path, $bytes) = @_;
    open(my $random, '<:raw', '/dev/urandom') or die "no /dev/urandom: $!\n";
    open(my $file, '>:raw', $path) or die "can't write '$path': $!\n";
    for (my $left = $bytes; $left > 0; $left -= 1024 ** 2) {
        read($random, my $block, $left < 1024 ** 2 ? $left : 1024 ** 2);
        print {$file} $block or die "can't write '$path': $!\n";
    }
    close($file) or die "can't write '$path': $!\n";
    return;
}

sub hardware_address {
    my ($self, $vmid) = @_;
    return sprintf('52:54:00:00:%02X:%02X', $vmid >> 8, $vmid & 255);
}

sub ticks {
    my ($self, $vmid, $node) = @_;
    return $self->{ticks}{$vmid}{$node};
}

# Ends a VM wherever it is and removes what it had.
sub remove_vm {
    my ($self, $vmid) = @_;
    for my $node (keys %{ $self->{nodes} }) {
        $self->run($node, 'qm', 'stop', $vmid);
        unlink("$self->{folder}/pve/nodes/$node/qemu-server/$vmid.conf");
        File::Path::remove_tree($self->path($node, "stack/images/$vmid"));
    }
    $_->close_all() for values %{ delete $self->{ticks}{$vmid} };
    return;
}

sub start_migration {
    my ($self, $vmid) = @_;
    return $self->start('alpha', 'qm', 'migrate', $vmid, 'beta');
}

# Serves the loop until the task has logged a line that matches.
sub wait_for_line {
    my ($self, $task, $pattern) = @_;
    $self->{loop}->run_until($COMMAND_SECONDS, "a line that matches $pattern", sub {
        my $found = grep { $_->[1] =~ $pattern } @{ $task->{lines} };
        return 1 if $found;
        die log_of($task), "the task ended without a line that matches $pattern\n"
            if defined $task->{exit};
        return 0;
    });
    return;
}

# The whole log of a task as one text.
sub log_of { return join('', map { "$_->[1]\n" } @{ $_[0]->{lines} }) }

# The log without its times of day.
sub messages_of { return map { $_->[1] =~ s/\A\d{4}-\d\d-\d\d [\d:]{8} //r } @{ $_[0]->{lines} } }

# One QMP command to a VM, from outside.
sub qmp {
    my ($self, $node, $vmid, $command, %arguments) = @_;
    my $peer = { path => $self->path($node, "qemu-server/$vmid.qmp"), name => "VM $vmid on $node" };
    return PVE::QemuServer::Monitor::qmp_cmd($peer, $command, timeout => $COMMAND_SECONDS, %arguments);
}

# The node's configuration file of the VM, or undef.
sub config {
    my ($self, $node, $vmid) = @_;
    return _read("$self->{folder}/pve/nodes/$node/qemu-server/$vmid.conf");
}

# The bridge table of a node.
sub forwarding {
    my ($self, $node) = @_;
    return _read($self->path($node, 'stack/forwarding')) // '';
}

# Names under a node's folder for sockets and process ids that belong to the VM.
sub run_files {
    my ($self, $node, $vmid) = @_;
    return map { File::Basename::basename($_) } glob($self->path($node, "qemu-server/$vmid*"));
}

1;
