# The stack's QMP client: a new connection for every command, as all of its tools do it.
package PVE::QemuServer::Monitor;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use Exporter 'import';
use IO::Handle;
use JSON ();
use Socket qw(AF_UNIX SOCK_STREAM pack_sockaddr_un);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @EXPORT_OK = qw(mon_cmd qmp_cmd qmp_peer qmp_socket);

my $DEFAULT_TIMEOUT_SECONDS = 5;
my $MAXIMUM_REPLY_BYTES = 16 * 1024 * 1024;

my $json = JSON->new->utf8;

sub qmp_socket {
    my ($vmid) = @_;
    return "/var/run/qemu-server/$vmid.qmp";
}

# Whom to talk to, as the block job functions want it.
sub qmp_peer {
    my ($vmid) = @_;
    return { type => 'qmp', id => $vmid, name => "VM $vmid", path => qmp_socket($vmid) };
}

# One command to a VM by its number. The argument `timeout` is ours, in seconds.
sub mon_cmd {
    my ($vmid, $command, %arguments) = @_;
    return qmp_cmd(qmp_peer($vmid), $command, %arguments);
}

sub qmp_cmd {
    my ($peer, $command, %arguments) = @_;
    my $timeout = delete($arguments{timeout}) // $DEFAULT_TIMEOUT_SECONDS;
    my $result = eval { _converse($peer->{path}, $timeout, $command, \%arguments) };
    if (my $error = $@) {
        die $error if $error eq "interrupted by signal\n";
        die "$peer->{name} qmp command '$command' failed - $error";
    }
    return $result;
}

sub _converse {
    my ($path, $timeout, $command, $arguments) = @_;
    my $deadline = clock_gettime(CLOCK_MONOTONIC) + $timeout;
    my $connection = { socket => _connect($path, $deadline), deadline => $deadline, buffer => '' };
    _next_message($connection, sub { exists $_[0]->{QMP} });
    _execute($connection, 'qmp_capabilities', {});
    return _execute($connection, $command, $arguments);
}

# A full queue of waiting clients answers EAGAIN at once, so it is tried again until the deadline.
sub _connect {
    my ($path, $deadline) = @_;
    while (1) {
        socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die "can't create a socket: $!\n";
        $socket->blocking(0);
        $socket->autoflush(1);
        return $socket if connect($socket, pack_sockaddr_un($path));
        die "can't connect to '$path' - $!\n" if $! != EAGAIN && $! != EINTR;
        die "got timeout\n" if clock_gettime(CLOCK_MONOTONIC) >= $deadline;
        Time::HiRes::usleep(50_000);
    }
}

sub _execute {
    my ($connection, $command, $arguments) = @_;
    my %message = (execute => $command, id => "$$:$command");
    $message{arguments} = $arguments if %$arguments;
    my $text = $json->encode(\%message) . "\r\n";
    while (length $text) {
        my $written = syswrite($connection->{socket}, $text);
        if (defined $written) {
            substr($text, 0, $written) = '';
        } elsif ($! == EAGAIN) {
            _wait($connection, 1);
        } elsif ($! != EINTR) {
            die "write failed - $!\n";
        }
    }
    my $reply = _next_message($connection, sub { ($_[0]->{id} // '') eq $message{id} });
    die "$reply->{error}{desc}\n" if $reply->{error};
    return $reply->{return};
}

sub _next_message {
    my ($connection, $wanted) = @_;
    while (1) {
        while ($connection->{buffer} =~ s/\A([^\n]*)\n//) {
            my $message = $json->decode($1);
            return $message if $wanted->($message);
        }
        _wait($connection, 0);
        my $count = sysread($connection->{socket}, $connection->{buffer}, 65536,
            length $connection->{buffer});
        die "client closed connection\n" if defined($count) && $count == 0;
        die "read failed - $!\n" if !defined($count) && $! != EAGAIN && $! != EINTR;
        die "reply too long\n" if length($connection->{buffer}) > $MAXIMUM_REPLY_BYTES;
    }
}

# Waits until the socket can be read (or written); signal handlers run, and may die, in here.
sub _wait {
    my ($connection, $for_writing) = @_;
    my $remaining = $connection->{deadline} - clock_gettime(CLOCK_MONOTONIC);
    die "got timeout\n" if $remaining <= 0;
    my $bits = '';
    vec($bits, fileno($connection->{socket}), 1) = 1;
    my ($read, $write) = $for_writing ? (undef, $bits) : ($bits, undef);
    select($read, $write, undef, $remaining);
    return;
}

1;
