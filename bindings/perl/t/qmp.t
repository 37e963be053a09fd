# The QMP client against real monitors.
use strict;
use warnings;
use utf8;

use File::Temp ();
use IO::Socket::UNIX;
use Scalar::Util ();
use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::QMP;
use SwitchoverTest::QEMU;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my $folder = File::Temp->newdir();
my $NAME = 'wörld 😀';

for my $version (SwitchoverTest::QEMU::versions()) {
    my $name = "v$version";
    utf8::encode(my $wire_name = $NAME);
    my $qemu = SwitchoverTest::QEMU->start(folder => $folder->dirname(), name => $name,
        version => $version, arguments => ['-S', '-name', $wire_name]);
    my $path = "$folder/$name.qmp";
    my $qmp = QEMU::Switchover::QMP->connect($path, events => 1, oob => 1);

    is(join('.', ($qmp->version())[0, 1]), $version, "QEMU $version: it greets with its version");
    is($qmp->execute('query-status')->{status}, 'prelaunch', 'a command has its value');
    is($qmp->execute('query-name')->{name}, $NAME, 'texts keep all characters');

    $qmp->execute('migrate-set-parameters', { 'max-bandwidth' => 9_007_199_254_740_993 });
    is($qmp->execute('query-migrate-parameters')->{'max-bandwidth'}, '9007199254740993',
        'integers keep all bits');

    ok(!eval { $qmp->execute('no-such-command', { a => 1 }); 1 }, 'a refused command dies');
    is($@->code(), 'qmp', 'with its code');
    is($@->class(), 'CommandNotFound', "QEMU's class");
    is($@->command(), 'no-such-command', 'and the command');

    $qmp->execute('cont');
    my $event = $qmp->next_event(10_000);
    is($event->{name}, 'RESUME', 'an event arrives');
    cmp_ok($event->{time_us}, '>', 1_500_000_000_000_000, 'with the time of QEMU');
    is($event->{qmp}, $qmp, 'and its client');
    is($qmp->next_event(50), undef, 'and no other');

    my $first = $qmp->submit('stop');
    my $second = $qmp->submit('query-status', undef, oob => 0);
    is($qmp->execute('query-status')->{status}, 'paused', 'commands keep their order');
    my %replies = map { $_->{id} => $_ } grep { $_->{kind} eq 'qmp-reply' }
        map { $qmp->loop()->next_event() // () } 1 .. 10;
    ok($replies{$first} && !$replies{$first}{error}, 'a submitted command has its own reply');
    is($replies{$second}{value}{status}, 'paused', 'and so has another');

    pipe(my $read, my $write) or die "pipe failed: $!\n";
    $qmp->pass_fd('a-pipe', $write);
    ok(fileno($write), 'a descriptor that is passed stays ours');
    $qmp->execute('closefd', { fdname => 'a-pipe' });
    ok(!eval { $qmp->execute('closefd', { fdname => 'a-pipe' }); 1 }, 'QEMU had it, once');

    my $status = $qmp->execute('query-status')->{status};
    is(!!Scalar::Util::tainted($status), !!${^TAINT}, 'what QEMU says is tainted, under -T');

    my $late = eval { QEMU::Switchover::QMP->connect($path, timeout_ms => 300); 1 };
    ok(!$late, 'a monitor that somebody holds is not shared');
    like($@->code(), qr/\A(?:busy|timeout)\z/, 'and the code says so');

    # Events hold on to their client.
    undef $_ for $event, %replies, $qmp;
    $qmp = QEMU::Switchover::QMP->connect($path);
    ok($qmp, 'a client that is dropped makes room for the next');
    $qemu->stop();
    ok(!eval { $qmp->execute('query-status'); 1 }, 'a QEMU that is gone does not answer');
    like($@->code(), qr/\A(?:lost|closed)\z/, 'and the code says so');
}

# A server that greets, and says nothing more.
my $silent = "$folder/silent.qmp";
my $listener = IO::Socket::UNIX->new(Local => $silent, Listen => 4) or die "can't listen: $!\n";
my $server = fork() // die "fork failed: $!\n";
if (!$server) {
    my $client = $listener->accept();
    print {$client} '{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7},"package":""},'
        . '"capabilities":[]}}' . "\r\n";
    my $line = <$client>;
    my ($id) = $line =~ /"id":\s*([^,}]+)/;
    print {$client} qq({"return":{},"id":$id}\r\n);
    sleep(60);
    POSIX::_exit(0);
}
my $qmp = QEMU::Switchover::QMP->connect($silent);
ok(!eval { $qmp->execute('stop', undef, timeout_ms => 200); 1 }, 'a command without an answer dies');
is($@->code(), 'timeout', 'with its code');
like($@->text(), qr/outcome is unknown/, 'and says what that means');
kill('KILL', $server);
waitpid($server, 0);

done_testing();
