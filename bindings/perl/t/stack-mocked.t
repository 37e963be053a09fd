# The stack in its pure mocked form: it asks for exactly what it always asked for, with the drop-in and
# without it.
use strict;
use warnings;

use FindBin;
use Test::More;

my $STACK = "$FindBin::Bin/stack";

sub read_text {
    my ($file) = @_;
    local $/;
    return scalar <$file>;
}

open(my $expected, '<', "$STACK/mocked.expected") or die "can't read the transcript: $!\n";
my $wanted = read_text($expected);

# What finds the module that is tested.
my @include = map { ('-I', $_) } grep { !ref } @INC;
my $DROP_IN = 'QEMU::Switchover::QemuServer';

my @runs = map {
    my @command =
        ($^X, '-I', "$FindBin::Bin/lib", '-MSwitchoverTest::ShortSleeps', @{ $_->{options} },
            '-I', "$STACK/lib", "$STACK/mocked.pl", @{ $_->{arguments} // [] });
    open($_->{output}, '-|', @command) or die "can't run @command: $!\n";
    $_;
} { name => 'plain', options => [] }, { name => 'tainted', options => ['-T'] },
    { name => 'drop-in before the mocks', options => ['-T', @include, "-M$DROP_IN"] },
    { name => 'drop-in after the mocks', options => ['-T', @include], arguments => [$DROP_IN] };

for my $run (@runs) {
    my @got = split /\n\n/, read_text($run->{output});
    ok(close($run->{output}), "$run->{name}: it runs to its end");
    for my $scenario (split /\n\n/, $wanted) {
        my ($name) = $scenario =~ /\A# (.*)/;
        is(shift(@got) =~ s/\n\z//r, $scenario =~ s/\n\z//r, "$run->{name}: $name");
    }
    is(scalar @got, 0, "$run->{name}: and nothing else");
}

done_testing();
