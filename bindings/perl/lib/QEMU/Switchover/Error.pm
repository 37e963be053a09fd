package QEMU::Switchover::Error;

use strict;
use warnings;

use overload '""' => sub { "$_[0]->{text}\n" }, bool => sub { 1 }, fallback => 1;

=encoding utf8

=head1 NAME

QEMU::Switchover::Error - why a call or a migration failed

=head1 SYNOPSIS

    eval { $qmp->execute('stop'); 1 } or do {
        my $error = $@;
        die $error if !ref $error;
        warn "not now: $error" if $error->code() eq 'timeout';
    };

=head1 DESCRIPTION

As a string it is its text and a newline. Programs go by the fields: they are stable, the text is
not. A field that has nothing to say is undef.

=head1 METHODS

=head2 code

One word: C<invalid>, C<state>, C<system>, C<interrupted>, C<timeout>, C<too-late>, C<forked>,
C<limit>, C<busy>, C<connect>, C<protocol>, C<qmp> (QEMU refused a command), C<lost>, C<closed>,
C<internal>; for the error of a migration C<cancelled>, C<failed> or C<unknown>, as it ended.

=head2 text

What happened, for a person: one line without a newline.

=head2 command

=head2 class

The QMP command that failed, and QEMU's class of the error.

=head2 failure

=head2 side

=head2 owner

=head2 guest

=head2 next_step

Of a migration: why it failed (a word such as C<monitor-busy>), on which side, who may run the guest
now, how the guest is, and the safe next step.

=cut

my @FIELDS = qw(code text command class failure side owner guest next_step);

for my $field (@FIELDS) {
    no strict 'refs';
    *{$field} = sub { return $_[0]->{$field} };
}

# Makes an error from its fields; an empty one counts as none.
sub new {
    my ($class, %fields) = @_;
    my %given = map { $_ => $fields{$_} } grep { defined $fields{$_} && $fields{$_} ne '' } @FIELDS;
    return bless \%given, $class;
}

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover>

=cut
