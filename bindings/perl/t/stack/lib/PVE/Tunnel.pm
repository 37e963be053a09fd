# The ssh connection of a migration: a command channel on its pipes, forwarded unix sockets beside
# it.
package PVE::Tunnel;

use strict;
use warnings;

use Time::HiRes ();

use PVE::Tools qw(reap run_with_timeout spawn untaint);

my $GREETING_TIMEOUT_SECONDS = 60;
my $SOCKET_TIMEOUT_SECONDS = 5;

# Opens the tunnel, forwards each socket to the same path on the other node, reads the greeting.
sub fork_ssh_tunnel {
    my ($rem_ssh, $command, $sockets) = @_;
    unlink($_) for @$sockets;
    my @forwards = map { ('-L', "$_:$_") } @$sockets;
    my ($pid, $reader, $writer) =
        spawn([@$rem_ssh, '-o', 'ExitOnForwardFailure=yes', @forwards, @$command]);
    my $tunnel = {
        pid => $pid, reader => $reader, writer => $writer, version => 0, sockets => [@$sockets],
    };
    my $opened = eval {
        my $greeting = read_tunnel($tunnel, $GREETING_TIMEOUT_SECONDS);
        die "tunnel said '$greeting' instead of its greeting\n" if $greeting ne 'tunnel online';
        my $version = read_tunnel($tunnel, $GREETING_TIMEOUT_SECONDS);
        $version =~ /\Aver ([0-9]+)\z/ or die "tunnel said '$version' instead of its version\n";
        $tunnel->{version} = $1;
        wait_for_sockets($sockets);
        1;
    };
    if (!$opened) {
        my $error = $@;
        finish_tunnel($tunnel);
        die $error if $error eq "interrupted by signal\n";
        die "can't open the migration tunnel - $error";
    }
    return $tunnel;
}

sub wait_for_sockets {
    my ($sockets) = @_;
    my $deadline = Time::HiRes::time() + $SOCKET_TIMEOUT_SECONDS;
    for my $path (@$sockets) {
        while (!-S $path) {
            die "timeout waiting for socket '$path'\n" if Time::HiRes::time() >= $deadline;
            Time::HiRes::usleep(50_000);
        }
    }
    return;
}

sub read_tunnel {
    my ($tunnel, $seconds) = @_;
    my $reader = $tunnel->{reader};
    my $line = run_with_timeout($seconds, sub { scalar <$reader> });
    die "tunnel closed\n" if !defined $line;
    chomp $line;
    return untaint($line, qr/.*/, 'tunnel line');
}

# Sends one command and reads its answer, which protocol version 1 promises for known commands.
sub write_tunnel {
    my ($tunnel, $seconds, $command) = @_;
    my $writer = $tunnel->{writer};
    run_with_timeout($seconds, sub {
        local $SIG{PIPE} = sub { die "tunnel closed\n" };
        print {$writer} "$command\n" or die "writing to the tunnel failed: $!\n";
    });
    return if $tunnel->{version} < 1;
    my $answer = read_tunnel($tunnel, $seconds);
    return if $answer eq 'OK';
    die "$1\n" if $answer =~ /\AERR: (.*)\z/;
    die "tunnel answered '$answer' to '$command'\n";
}

sub finish_tunnel {
    my ($tunnel, $seconds) = @_;
    eval { write_tunnel($tunnel, $seconds // 30, 'quit') } if $tunnel->{version};
    my $error = $@;
    close($tunnel->{writer});
    kill('TERM', $tunnel->{pid}) if !$tunnel->{version};
    reap($tunnel->{pid}, 10);
    close($tunnel->{reader});
    unlink($_) for @{ $tunnel->{sockets} };
    return $error;
}

1;
