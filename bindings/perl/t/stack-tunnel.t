# The line protocol of the tunnel, over a real ssh connection, and who may resume what.
use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}
my $cluster = SwitchoverTest::Cluster->new();
$cluster->start_vm(100);
my $address = $cluster->hardware_address(100);

# What alpha's `qm mtunnel` answers to these lines, asked from beta.
sub answers {
    my (@lines) = @_;
    my $text = join('', map { "$_\\n" } @lines);
    my $ssh = 'ssh -F /run/stack/ssh/config -o BatchMode=yes -o HostKeyAlias=alpha root@127.0.0.2';
    return $cluster->run('beta', 'sh', '-c', "printf '$text' | $ssh qm mtunnel");
}

my @GREETING = ('tunnel online', 'ver 1');

is_deeply([answers('quit')], [@GREETING, 'OK'], 'it greets, and quits when asked to');
is_deeply([answers('version', 'resume', 'resume abc', 'nbdstop 100', '', 'quit')], [@GREETING, 'OK'],
    'a line that it does not know gets no answer at all');
like([answers('resume 999', 'quit')]->[2], qr/\AERR: .*999.*\z/, 'a VM that is not there is an error');

unlink($cluster->path('alpha', 'stack/forwarding'));
is_deeply([answers('resume 100')], [@GREETING, 'OK'], 'resuming a VM that runs is no error');
is($cluster->forwarding('alpha'), '', 'and does not touch the bridge table');

$cluster->qmp('alpha', 100, 'stop');
is_deeply([answers('resume 100')], [@GREETING, 'OK'], 'a VM that stands is resumed');
is($cluster->forwarding('alpha'), "$address\n", 'and the bridge knows where it is');
is($cluster->qmp('alpha', 100, 'query-status')->{status}, 'running', 'it runs');

done_testing();
