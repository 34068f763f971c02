"""D35 at the edge: a sender has his share of the room for bodies, and small bodies always find room."""

from checkins.ingest.room import SMALL_BYTES_MAX, TINY_BYTES_MAX, Place, Room

MEGABYTE = 1 << 20
SMALL = SMALL_BYTES_MAX


def test_d35_stalled_uploads_of_strangers_give_way_to_a_small_body_that_comes():
    room = Room(4 * MEGABYTE)
    stalled = [Place() for _ in range(50)]
    for place in stalled:
        room.resize(place, SMALL)
    comer = Place()
    assert room.resize(comer, 1000)
    assert room.held <= MEGABYTE
    assert stalled[0].is_lost
    assert not room.resize(stalled[0], SMALL)
    assert not stalled[-1].is_lost, "the oldest give way"


def test_d35_one_sender_cannot_take_the_room_of_another():
    room = Room(4 * MEGABYTE)
    hog = [Place(sender="hog") for _ in range(6)]
    for place in hog:
        place.kept += b"x" * 100
        room.resize(place, MEGABYTE // 2)
    assert all(not place.is_lost for place in hog), "while nobody else wants it, it has all of it"
    other = Place(sender="other")
    assert room.resize(other, MEGABYTE)
    assert [place.is_lost for place in hog] == [True, True, False, False, False, False]
    assert [len(place.kept) for place in hog] == [0, 0, 100, 100, 100, 100], "one that stalls keeps nothing either"


def test_d35_who_holds_most_is_refused_more():
    room = Room(4 * MEGABYTE)
    modest = Place(sender="modest")
    assert room.resize(modest, MEGABYTE)
    hog = Place(sender="hog")
    assert room.resize(hog, 2 * MEGABYTE)
    assert not room.resize(hog, 3 * MEGABYTE)
    assert not modest.is_lost


def test_what_is_complete_and_waits_for_its_answer_does_not_give_way():
    room = Room(4 * MEGABYTE)
    complete = [Place(is_complete=True) for _ in range(16)]
    for place in complete:
        assert room.resize(place, SMALL)
    assert not room.resize(Place(), SMALL)
    assert room.resize(Place(), TINY_BYTES_MAX), "small bodies always find room"
    assert not any(place.is_lost for place in complete)


def test_what_is_released_is_there_again():
    room = Room(4 * MEGABYTE)
    place = Place(sender="one")
    assert room.resize(place, 3 * MEGABYTE)
    room.release(place)
    room.release(place)
    assert room.held == 0
    assert room.resize(Place(sender="two"), 3 * MEGABYTE)
