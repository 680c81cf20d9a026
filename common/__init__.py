"""The library: a file of the ground floor, or a room, for each thought; models/ and methods/ stand on it.

Ground (no state, imports only the ground): errors; skeleton, camera, rotation, bones, procrustes, metrics; h36m (names
of subjects and actions); pose_set (one split as flat tensors); threads.
Rooms, each of which imports the ground and the rooms above it in this list only:

    files       reading and writing that cannot hurt: atomic, npz, mat, pickled_module
    draw        pictures: scene, animation, turntable, curves, overview, gif, colours; page for the browser; tables
    run         a run from its command line to its last checkpoint: options, script, run, losses, checkpoint, log, ...
    images      people in images: readers, crops, heat maps and their decoding, scores, loader
    datasets    Human3.6M's layout and takes, MPI-INF-3DHP, 2D-only sets, statistics of any (does not know images)
    synthetic   people made up: motion, data sets, rendered images
    multiview   folders of synchronised views (Rhodin's): labels, batches, writer
    mocap       motion capture -> Human3.6M's joints: BVH, Acclaim, C3D, SMPL (does not know multiview)
    video       people of a video: frames, 2D detectors, keypoint files, layouts, following, what is written

common/ never imports models/ or methods/; tests/test_architecture.py holds all this. Only the floors have an
`__init__.py`, for their plans; the rooms need none.
"""
