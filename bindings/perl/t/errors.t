# Wrong use croaks, failures are objects, and nothing of it harms anything.
use strict;
use warnings;

use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::QMP;

my $loop = QEMU::Switchover->new();
my %good = (source => '/nowhere/a', target => '/nowhere/b', uri => 'unix:/nowhere/ram',
    source_end => 'keep');

sub error_of {
    my ($code) = @_;
    return eval { $code->(); 1 } ? undef : $@;
}

sub croaks {
    my ($name, $pattern, $code) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = error_of($code);
    ok(defined $error && !ref $error && $error =~ $pattern, $name) or diag($error // 'no error');
    return;
}

sub fails {
    my ($name, $word, $code) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = error_of($code);
    isa_ok($error, 'QEMU::Switchover::Error', $name) or return diag($error // 'no error');
    is($error->code(), $word, "$name: $word");
    return $error;
}

croaks('an option that there is not', qr/there is no option 'sauce'/,
    sub { $loop->migration(%good, sauce => 1) });
croaks('a word that there is not', qr/hand_over must be one of before-resume, .*, not 'later'/,
    sub { $loop->migration(%good, hand_over => 'later') });
croaks('a number that is none', qr/bytes_per_second is not a number/,
    sub { $loop->migration(%good, bandwidth => 'fast') });
croaks('a negative number', qr/bytes_per_second is not a whole number/,
    sub { $loop->migration(%good, bandwidth => -1) });
croaks('a fraction', qr/bytes_per_second is not a whole number/,
    sub { $loop->migration(%good, bandwidth => 1.5) });
croaks('a number that is too large', qr/limit_ms is too large/,
    sub { $loop->migration(%good, downtime_limit_ms => 2 ** 33) });
croaks('a text with NUL', qr/uri has a NUL character/, sub { $loop->migration(%good, uri => "a\0b") });
croaks('half a pair', qr/nbd_listen needs nbd/, sub { $loop->migration(%good, nbd_listen => '/n') });
croaks('a disk without a name', qr/device is undefined/,
    sub { $loop->migration(%good, disks => [{ export => 'd' }]) });
croaks('an option of the other kind of disk', qr/there is no option 'export'/,
    sub { $loop->migration(%good, disks => [{ device => 'd', job => 'j', export => 'd' }]) });
croaks('an ssh command that is no list', qr/command is no array/,
    sub { $loop->set_ssh(command => 'ssh') });
croaks('a carrier that there is not', qr/carrier must be one of auto, libssh2, system/,
    sub { $loop->set_ssh(carrier => 'pigeon') });
fails('an ssh command without a word', 'invalid', sub { $loop->set_ssh(command => []) });
fails('an ssh command of too many words', 'limit', sub { $loop->set_ssh(command => [('ssh') x 1000]) });
ok(eval { $loop->set_ssh(command => ['ssh', '-o', 'HostKeyAlias=n'], carrier => 'system'); 1 },
    'how ssh addresses are reached can be set') or diag($@);
croaks('arguments that are no hash', qr/must be a hash/,
    sub { $loop->qmp('/nowhere/a')->submit('stop', []) });
croaks('a handle of the wrong type', qr/this is no QEMU::Switchover::C::Migration/,
    sub { QEMU::Switchover::C::migration_start($loop->{handle}) });
croaks('no handle at all', qr/this is no QEMU::Switchover::C::Loop/,
    sub { QEMU::Switchover::C::loop_fd(42) });
croaks('a handle that is freed', qr/the handle is freed already/, sub {
    my $other = QEMU::Switchover->new();
    $other->{handle}->DESTROY();
    $other->fd();
});

fails('a capability that the switchover needs', 'invalid',
    sub { $loop->migration(%good, capabilities => { events => 0 }) });
fails('a text that is no address', 'invalid', sub { $loop->migration(%good, source => '') });
my $error = fails('a start without all that it needs', 'invalid',
    sub { $loop->migration(source => '/nowhere/a')->start() });
like($error->text(), qr/^swo_migration_start: /, 'the text names the call');
is("$error", $error->text() . "\n", 'as a string it ends with a newline');

my $migration = $loop->migration(%good);
fails('a question too early', 'state', sub { $migration->handed_over('done') });
$migration->start();
fails('a second start', 'state', sub { $migration->start() });
is($migration->run(20_000), 'finished', 'a migration of nothing ends');
is($migration->end(), 'failed', 'as failed');
my $failure = $migration->error();
is($failure->code(), 'failed', 'its error has the code');
is($failure->failure(), 'monitor-unreachable', 'the reason');
is($failure->owner(), 'source', 'the owner');
like($failure->side(), qr/\A(?:source|target)\z/, 'and the side');
like("$failure", qr/owner: source/, 'as a string it says who owns the guest');

fails('a monitor that is not there', 'connect',
    sub { QEMU::Switchover::QMP->connect('/nowhere/qmp') });

# A client that is closed answers closed, and a loop that is gone too.
my $qmp = $loop->qmp('/nowhere/qmp');
$loop->dispatch(1000);
my ($closed) = grep { $_->{kind} eq 'qmp-closed' } map { $loop->next_event() // () } 1 .. 50;
is($closed->{error}->code(), 'connect', 'an event says why a client is closed');
fails('a command to it', 'closed', sub { $qmp->execute('stop') });

done_testing();
