"""What a materialisation was made from, where the event log says less than usual."""

from __future__ import annotations

import dagster as dg

from fastdup_dagster.assets.provenance import Provenance

LISTING = dg.AssetKey("image_manifest")


def test_a_materialisation_that_was_reported_by_hand_has_no_version_and_counts_as_another(project):
    assert project.run("pets/train", "image_manifest").success
    events = Provenance(project.instance)
    made = events.latest(LISTING, "pets/train")
    assert made is not None and not events.moved_on(LISTING, "pets/train", made.storage_id)
    project.instance.report_runless_asset_event(dg.AssetMaterialization(LISTING, partition="pets/train"))
    assert events.moved_on(LISTING, "pets/train", made.storage_id)
    by_hand = events.latest(LISTING, "pets/train")
    assert by_hand is not None
    assert project.run("pets/train", "image_manifest").success
    assert events.moved_on(LISTING, "pets/train", by_hand.storage_id)
