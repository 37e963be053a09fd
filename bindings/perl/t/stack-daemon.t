# Migrations as workers of a daemon that has loaded the stack long before.
use strict;
use warnings;

use FindBin;
use IO::Socket::UNIX;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new();
my $loop = $cluster->loop();
my $socket = $cluster->path('alpha', 'stack/daemon.sock');
my $daemon = $cluster->start('alpha', 'stackd', '/run/stack/daemon.sock');

# The whole answer of the daemon to one request.
sub answer_to {
    my ($request) = @_;
    my $client;
    $loop->run_until(60, 'the daemon', sub { $client = IO::Socket::UNIX->new(Peer => $socket) });
    print {$client} "$request\n";
    my ($text, $ended) = ('', 0);
    $loop->watch($client, sub {
        $ended = 1 if !sysread($client, $text, 65536, length $text);
        $loop->forget($client) if $ended;
    });
    $loop->run_until(120, "the answer to '$request'", sub { $ended });
    return $text;
}

$cluster->start_vm(100);
my $answer = answer_to('migrate 100 beta');
like($answer, qr/\Aworker \d+\n/, 'a worker takes the request');
like($answer, qr/migration status: completed\n.*^task ended: OK\n\z/ms, 'and does the migration');
guest_moved($cluster, 100);
$cluster->remove_vm(100);

like(answer_to('migrate 100 beta'), qr/^task ended: .+\n\z/m, 'a VM that is not there is an error');
like(answer_to('dance'), qr/^task ended: the request is not understood\n\z/m, 'so is another request');

# A reload is the same process that starts itself anew.
$cluster->run('alpha', 'sh', '-c', 'kill -HUP $(pgrep -f "^/usr/bin/perl -T .*/bin/stackd ")');
$cluster->start_vm(101);
like(answer_to('migrate 101 beta'), qr/^task ended: OK\n\z/m, 'after a reload it works as before');
guest_moved($cluster, 101);
is($daemon->{exit}, undef, 'as the same process');

done_testing();
