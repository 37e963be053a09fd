# The examples do what they say.
use strict;
use warnings;

use File::Temp ();
use FindBin;
use Test::More;

use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my ($EXAMPLES) = "$FindBin::Bin/../eg" =~ /\A(.+)\z/s;
my ($PERL) = $^X =~ /\A(.+)\z/s;
my @INCLUDE = map { /\A(.+)\z/s ? ('-I', $1) : () } @INC;
$ENV{PATH} = '/usr/bin:/bin';
delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};

my $ticking = SwitchoverTest::Loop->new();

# The output of a command, while the guests of the tests are listened to.
sub output_of {
    my (@command) = @_;
    open(my $output, '-|', @command) or die "can't run '@command': $!\n";
    my ($text, $ended) = ('', 0);
    $ticking->watch($output, sub {
        $ended = 1 if !sysread($output, $text, 65536, length $text);
        $ticking->forget($output) if $ended;
    });
    $ticking->run_until(120, "the end of '@command'", sub { $ended });
    close($output);
    return $text;
}

sub with_pair {
    my ($name, $code) = @_;
    subtest $name => sub {
        my $folder = File::Temp->newdir();
        my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname());
        $code->($folder, $pair);
        $pair->stop();
    };
    return;
}

sub is_unbroken {
    my ($pair) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $pair->ticks('target')->wait_for(20);
    return is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
        'the guest counts on');
}

with_pair('migrate', sub {
    my ($folder, $pair) = @_;
    my $text = output_of($PERL, @INCLUDE, "$EXAMPLES/migrate", "$folder/source.qmp",
        "$folder/target.qmp", "unix:$folder/ram");
    is($? >> 8, 0, 'succeeds');
    like($text, qr/completed; blackout .*^ *\d+ us  activation$/ms, 'and shows the ledger');
    is_unbroken($pair);
});

with_pair('worker', sub {
    my ($folder, $pair) = @_;
    open(my $config, '>', "$folder/from.conf") or die "can't write: $!\n";
    close($config);
    my $text = output_of($PERL, '-T', @INCLUDE, "$EXAMPLES/worker", "$folder/source.qmp",
        "$folder/target.qmp", "unix:$folder/ram", "$folder/from.conf", "$folder/to.conf");
    is($? >> 8, 0, 'succeeds') or diag($text);
    like($text, qr/^transferring\n.*^handing-over\n.*completed; blackout/ms, 'and says where it is');
    ok(-e "$folder/to.conf" && !-e "$folder/from.conf", 'the configuration has moved');
    is_unbroken($pair);
});

with_pair('worker whose configuration does not move', sub {
    my ($folder, $pair) = @_;
    my $text = output_of($PERL, '-T', @INCLUDE, "$EXAMPLES/worker", "$folder/source.qmp",
        "$folder/target.qmp", "unix:$folder/ram", "$folder/from.conf", "$folder/to.conf");
    is($? >> 8, 1, 'fails');
    like($text, qr/can't be moved.*owner: source/s, 'with the guest on the source');
    $pair->ticks('source')->wait_for(20);
    ok($pair->ticks('target')->never_ran($pair->ticks('source')), 'and nowhere else');
});

subtest 'one-liners' => sub {
    my $folder = File::Temp->newdir();
    my $qemu = SwitchoverTest::QEMU->start(folder => $folder->dirname(), name => 'one');
    open(my $file, '<', "$EXAMPLES/one-liners.md") or die "can't read: $!\n";
    my %expected = (
        'query-status' => qr/\Arunning\n\z/, 'query-block' => qr/\A\[.*\]\n/s,
        'downtime-limit' => qr/\A\z/,
    );
    for my $line (grep { s/\A    perl // } <$file>) {
        chomp $line;
        my ($command) = grep { index($line, $_) >= 0 } sort keys %expected;
        next if !defined $command;
        my ($clean) = $line =~ s!/run/qemu-server/100\.qmp!$folder/one.qmp!r =~ /\A(.+)\z/s;
        my $options = join(' ', map { "'$_'" } @INCLUDE);
        like(output_of('sh', '-c', "'$PERL' $options $clean"), $expected{$command}, $command);
        delete $expected{$command};
    }
    is_deeply(\%expected, {}, 'each was there');
    is($qemu->qmp('query-migrate-parameters')->{'downtime-limit'}, 200, 'and was carried out');
};

done_testing();
