# Real QEMU processes for tests: where they are, and a plain one under our own hand.
package SwitchoverTest::QEMU;

use strict;
use warnings;

use Cwd ();
use POSIX ();
use Time::HiRes ();

use PVE::QemuServer::Monitor ();

# This file is five folders below the checkout.
my ($CHECKOUT) = Cwd::realpath(__FILE__) =~ m!\A(/.+?)(?:/[^/]+){6}\z!s;
my %BINARY = (
    '7.2' => '/usr/bin/qemu-system-x86_64',
    '10.0' => "$CHECKOUT/.deps/qemu-10.0/bin/qemu-system-x86_64",
);

# The path of a QEMU of this version, or undef where it is not installed.
sub binary {
    my ($version) = @_;
    my $path = $BINARY{$version} // die "no QEMU $version is known\n";
    return -x $path ? $path : undef;
}

# The versions to be found here, oldest first.
sub versions { return grep { defined binary($_) } '7.2', '10.0' }

my %running;

# Starts one process. Options: version, folder, name, and further arguments; its monitor is NAME.qmp
# in the folder, and what it says is in NAME.log.
sub start {
    my ($class, %options) = @_;
    my $path = "$options{folder}/$options{name}.qmp";
    my @command = (
        binary($options{version} // '7.2'), '-name', $options{name}, '-accel', 'tcg',
        qw(-nodefaults -no-user-config -display none -vga none -boot a),
        '-chardev', "socket,id=qmp,path=$path,server=on,wait=off", '-mon', 'chardev=qmp,mode=control',
        @{ $options{arguments} // [] },
    );
    my $pid = fork() // die "fork failed: $!\n";
    if (!$pid) {
        %ENV = (PATH => '/usr/bin:/bin');
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>', "$options{folder}/$options{name}.log");
        open(STDERR, '>&', \*STDOUT);
        exec(@command) or POSIX::_exit(127);
    }
    my $self = bless { pid => $pid, path => $path, name => $options{name}, owner => $$ }, $class;
    $running{$pid} = $self;
    my $deadline = Time::HiRes::time() + 60;
    while (!listens($path)) {
        die "QEMU '$options{name}' ended at its start\n" if waitpid($pid, POSIX::WNOHANG()) == $pid;
        die "QEMU '$options{name}' opens no monitor\n" if Time::HiRes::time() >= $deadline;
        Time::HiRes::usleep(10_000);
    }
    return $self;
}

# Whether somebody listens there, which is a moment after there is a socket; without a connection, as that would
# be the monitor's first client.
sub listens {
    my ($path) = @_;
    return if !-S $path;
    open(my $sockets, '<', '/proc/net/unix') or die "no /proc/net/unix: $!\n";
    while (my $line = <$sockets>) {
        my ($flags, $bound) = (split ' ', $line)[3, 7];
        return 1 if ($bound // '') eq $path && hex($flags) & 0x10000;
    }
    return;
}

# One command on a connection of its own.
sub qmp {
    my ($self, $command, %arguments) = @_;
    my $peer = { path => $self->{path}, name => "QEMU $self->{name}" };
    return PVE::QemuServer::Monitor::qmp_cmd($peer, $command, %arguments);
}

sub stop {
    my ($self) = @_;
    return if $self->{owner} != $$ || !delete $running{ $self->{pid} };
    kill('KILL', $self->{pid});
    waitpid($self->{pid}, 0);
    unlink($self->{path});
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($@, $?, $!);
    $self->stop();
    return;
}

END {
    local ($?, $!);
    $_->stop() for values %running;
}

1;
